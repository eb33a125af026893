"""The relations of an image and of a caption that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from itmatch.batch import Captions, Fragments, SceneGraph
from itmatch.formats.arrays import Array
from itmatch.models import MatchingModel
from itmatch.nn.relations.context import ContextualOrder
from itmatch.nn.relations.implicit import ImplicitRelationAttention
from itmatch.nn.relations.spatial_semantic import SpatialSemanticGCN
from itmatch.nn.relations.textual_graph import TextualRelationGraph
from itmatch.nn.relations.visual_graph import VisualRelationGraph
from itmatch.ops.graphs import strongest_edges
from itmatch.pages.explanation import Relation
from itmatch.pages.inputs import GivenRelation, checked_relations
from itmatch.pages.words import ShownWords


def reads_relations(model: MatchingModel) -> bool:
    """Whether the image encoder reads the relations that come with an image; a block of one's own is taken to."""
    return any(map(_reads, getattr(model.image_encoder, "relations", None) or ()))


def check_reads_relations(model: MatchingModel) -> None:
    """Raise unless the image encoder reads the relations that come with an image.

    Raises:
        ValueError: it has no block that does.
    """
    if not reads_relations(model):
        name = type(model.image_encoder).__name__
        raise ValueError(f"this model reads no relations of an image: its {name} has no block that does")


def _reads(block: object) -> bool:
    if isinstance(block, VisualRelationGraph):
        return block.semantic
    if isinstance(block, SpatialSemanticGCN):
        return "semantic" in block.branches
    return not isinstance(block, (ImplicitRelationAttention, ContextualOrder))


def relations_taken(
    model: MatchingModel,
    mask: Tensor,
    boxes: Tensor | None,
    graph: SceneGraph | None,
    name_of: Callable[[int], str | None],
) -> list[Relation]:
    """The relations between regions that the image encoder takes, in the order of their fragments if it makes any.

    Args:
        model: whose encoder it is.
        mask: (1, R) bool.
        boxes: (1, R, 4), or None.
        graph: of the one image, or None.
        name_of: the name of a predicate.
    """
    found: list[tuple[int, int, int, float]] = []
    for block in getattr(model.image_encoder, "relations", None) or ():
        if isinstance(block, VisualRelationGraph) and (graph is not None or not block.semantic):
            _, ends, predicates, weights = block.edges(mask, boxes, graph)
        elif isinstance(block, SpatialSemanticGCN) and "semantic" in block.branches and graph is not None:
            kept = strongest_edges(graph, block.min_confidence)
            ends = graph.edge_index[:, kept]
            predicates = torch.full_like(kept, -1) if graph.predicate is None else graph.predicate[kept]
            weights = torch.ones(len(kept)) if graph.confidence is None else graph.confidence[kept]
        else:
            continue
        found += zip(*ends.tolist(), predicates.tolist(), weights.tolist(), strict=True)
    return [Relation(s, name_of(p), o, round(weight, 4)) for s, o, p, weight in found]


def graph_of(
    relations: Iterable[GivenRelation], regions: int, name_of: Callable[[int], str | None]
) -> tuple[SceneGraph, list[str | None]]:
    """Given relations as a graph whose predicates are numbers of a list of names.

    Raises:
        ValueError: a relation names no region.
    """
    table, names, weights = [], list[str | None](), []
    for number, given in enumerate(checked_relations(relations)):
        one = (given.subject, given.name, given.object, given.weight) if isinstance(given, Relation) else given
        subject, predicate, target = int(one[0]), one[1], int(one[2])
        if not (0 <= subject < regions and 0 <= target < regions):
            raise ValueError(f"relations[{number}]: regions {subject} and {target}, expected 0..{regions - 1}")
        table.append((subject, target))
        names.append(predicate if predicate is None or isinstance(predicate, str) else name_of(int(predicate)))
        weights.append(float(one[3]) if len(one) > 3 else 1.0)
    edges = torch.tensor(table, dtype=torch.int64).view(-1, 2).T.contiguous()
    row = torch.zeros(len(table), dtype=torch.int64)
    return SceneGraph(edges, row, 1, torch.arange(len(table)), torch.tensor(weights)), names


def phrases_of(model: MatchingModel, captions: Captions, shown: ShownWords) -> list[tuple[int, str]]:
    """The fragments of a caption that are relations, as their number among these and their words."""
    blocks = getattr(model.text_encoder, "relations", None) or ()
    block = next((block for block in blocks if isinstance(block, TextualRelationGraph)), None)
    if block is None:
        return []
    _, ends, predicates = block.edges(captions.mask, captions.graph)
    word = dict(zip(shown.places, shown.names, strict=True))
    middle = [-1] * ends.shape[1] if predicates is None else predicates.tolist()
    found = []
    for number, (subject, target, predicate) in enumerate(zip(*ends.tolist(), middle, strict=True)):
        if subject in word and target in word:
            parts = [word[subject], *([word[predicate]] if predicate in word else []), word[target]]
            found.append((number, " ".join(parts)))
    return found


def level_of_relations(
    image: Fragments, text: Fragments, aligned: Array | None, relations: int, phrases: Sequence[int]
) -> Array | None:
    """(relations, phrases) of the fragments that are relations on both sides, or None."""
    nodes, edges = image.relations(), text.relations()
    if aligned is None or nodes is None or edges is None:
        return None
    rows, columns = (side.mask[0].nonzero()[:, 0].cpu().numpy() for side in (nodes, edges))
    if len(rows) != relations or not relations or not phrases:
        return None
    level: Array = aligned[np.ix_(rows, columns[list(phrases)])]
    return level
