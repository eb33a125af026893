"""Scene graphs of single images, and the padded arrays that several of them make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from itmatch.formats.arrays import Array
from itmatch.formats.messages import shown
from itmatch.ops.checks import check_choice, check_share, check_whole_or_none

Unknown = Literal["error", "drop"]
MOST_PIXELS = 2**31  # of a side of an image


@dataclass(frozen=True, eq=False)
class ImageGraph:
    """The scene graph of one image.

    Args:
        image_id: name of the image.
        boxes: (R, 4) float, as fractions; the most important first.
        labels: (R,) int, -1 = unknown.
        relations: (K, 3) int, subject region, predicate, object region.
        scores: (K,) float in [0, 1], or None.
    """

    image_id: str
    boxes: Array
    labels: Array
    relations: Array
    scores: Array | None

    @classmethod
    def empty(cls, image_id: str) -> ImageGraph:
        """An image of which nothing is known."""
        nothing = np.zeros(0, np.int64)
        return cls(image_id, np.zeros((0, 4), np.float32), nothing, np.zeros((0, 3), np.int64), np.zeros(0, np.float32))

    def kept(self, which: Array) -> ImageGraph:
        """Some of the relations, by a mask or by their places."""
        scores = None if self.scores is None else self.scores[which]
        return replace(self, relations=self.relations[which], scores=scores)


@dataclass(frozen=True)
class Limits:
    """What is kept of scene graphs that are read.

    Args:
        max_regions: regions of an image, the first ones; relations with others go too. None = all.
        max_relations: relations of an image, the most confident. None = all.
        min_confidence: smallest confidence of a relation.
        predicates: names of predicates, in their order; None = those of the file.
        labels: likewise of object classes.
        unknown: what to do with a name that is not among those given: "error", or "drop" = leave the relation out, and
            label the region -1.
    """

    max_regions: int | None = None
    max_relations: int | None = None
    min_confidence: float = 0.0
    predicates: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    unknown: Unknown = "error"

    def __post_init__(self) -> None:
        """Check the values."""
        check_whole_or_none("max_regions", self.max_regions)
        check_whole_or_none("max_relations", self.max_relations)
        check_share("min_confidence", self.min_confidence)
        check_choice("unknown", self.unknown, "error", "drop")


def limited(
    graphs: list[ImageGraph], labels: Sequence[str], predicates: Sequence[str], limits: Limits, name: str
) -> tuple[list[ImageGraph], list[str], list[str]]:
    """What ``limits`` keeps of some graphs, and the names that their numbers then stand for.

    Args:
        graphs: as they are in a file.
        labels: names of the object classes, there.
        predicates: names of the predicates, there.
        limits: what to keep.
        name: for error messages.
    """
    graphs = [_cut(graph, limits) for graph in graphs]
    used = [(graph.image_id, graph.relations[:, 1]) for graph in graphs]
    predicate_names, predicate_map = _translation("predicate", predicates, limits.predicates, used, limits, name)
    used = [(graph.image_id, graph.labels) for graph in graphs]
    label_names, label_map = _translation("label", labels, limits.labels, used, limits, name)
    result = []
    for graph in graphs:
        relations = graph.relations.copy()
        relations[:, 1] = predicate_map[relations[:, 1]]
        renamed = replace(graph, relations=relations, labels=label_map[graph.labels])
        result.append(strongest(renamed.kept(relations[:, 1] != -1), limits.max_relations))
    return result, label_names, predicate_names


def strongest(graph: ImageGraph, count: int | None = None) -> ImageGraph:
    """The most confident relations first, without repetitions and without relations of a region to itself."""
    if graph.scores is not None:
        graph = graph.kept(np.argsort(-graph.scores, kind="stable"))
    graph = graph.kept(graph.relations[:, 0] != graph.relations[:, 2])
    subject, predicate, other = graph.relations.astype(np.int64).T
    key = (predicate * len(graph.boxes) + subject) * len(graph.boxes) + other
    first = np.sort(np.unique(key, return_index=True)[1])
    return graph.kept(first[:count])


def pack_columns(graphs: list[ImageGraph], *, scored: bool, num_regions: int = 1) -> dict[str, Any]:
    """The padded arrays of :class:`SceneGraphs` that hold some graphs, by the names of its fields.

    Args:
        graphs: of N images.
        scored: whether relations have confidences.
        num_regions: smallest R.
    """
    count = len(graphs)
    regions = max([num_regions, *(len(graph.boxes) for graph in graphs)])
    edges = max([1, *(len(graph.relations) for graph in graphs)])
    columns: dict[str, Any] = {
        "image_ids": [graph.image_id for graph in graphs],
        "lengths": np.array([len(graph.boxes) for graph in graphs], np.int64),
        "boxes": np.zeros((count, regions, 4), np.float32),
        "labels": np.full((count, regions), -1, np.int32),
        "relations": np.full((count, edges, 3), -1, np.int32),
        "relation_scores": np.zeros((count, edges), np.float32) if scored else None,
    }
    for row, graph in enumerate(graphs):
        columns["boxes"][row, : len(graph.boxes)] = graph.boxes
        columns["labels"][row, : len(graph.labels)] = graph.labels
        columns["relations"][row, : len(graph.relations)] = graph.relations
        if scored and graph.scores is not None:
            columns["relation_scores"][row, : len(graph.scores)] = graph.scores
    return columns


def normal_name(name: str) -> str:
    """How names are compared: in small letters, single blanks."""
    return " ".join(name.lower().split())


def _cut(graph: ImageGraph, limits: Limits) -> ImageGraph:
    if limits.max_regions is not None:
        count = limits.max_regions
        graph = graph.kept(np.asarray((graph.relations[:, ::2] < count).all(1)))
        graph = replace(graph, boxes=graph.boxes[:count], labels=graph.labels[:count])
    if graph.scores is not None and limits.min_confidence > 0:
        graph = graph.kept(graph.scores >= limits.min_confidence)
    return graph


def _translation(
    what: str,
    found: Sequence[str],
    wanted: Sequence[str] | None,
    used: list[tuple[str, Array]],
    limits: Limits,
    name: str,
) -> tuple[list[str], Array]:
    """Names to use, and the number of each found name among them; the last number, at place -1, is -1."""
    if wanted is None:
        return list(found), np.append(np.arange(len(found)), -1)
    place: dict[str, int] = {}
    for number, word in enumerate(wanted):
        if place.setdefault(normal_name(word), number) != number:
            raise ValueError(f"{what}s: {shown(word)} comes twice among the names given")
    numbers = np.array([*(place.get(normal_name(word), -1) for word in found), -1])
    if limits.unknown == "error":
        for image_id, values in used:
            bad = values[(numbers[values] == -1) & (values != -1)]
            if len(bad):
                raise ValueError(
                    f"{name}: image {shown(image_id)} has {what} {shown(found[bad[0]])}, which is not among the "
                    f"{len(place)} names given; unknown='drop' leaves such ones out"
                )
    return list(wanted), numbers
