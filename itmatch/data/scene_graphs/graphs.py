"""Visual scene graphs of a set of images: choosing, matching to other regions, and writing them beside features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from itmatch.data.batching import validation
from itmatch.data.scene_graphs.packing import ImageGraph, pack_columns, strongest
from itmatch.formats.arrays import Array, save_array
from itmatch.formats.files import read_json, user_path, write_text, written_together
from itmatch.formats.messages import counted
from itmatch.ops.checks import check_choice, check_several
from itmatch.ops.geometry import box_iou

Missing = Literal["error", "empty"]


@dataclass(frozen=True, eq=False, repr=False)
class SceneGraphs:
    """Regions of N images and the relations between them; one row an image, padded.

    :func:`read_scene_graph_benchmark` and :func:`read_visual_genome` make them from files. Most often the features of
    the images come from another detector; then :meth:`select` the images of a split in its order, :meth:`matched_to`
    its boxes, and :meth:`save` the relations beside the features.

    Args:
        image_ids: N different names.
        lengths: (N,) int, regions of each image; may be 0.
        boxes: (N, R, 4) float, x1 y1 x2 y2 as fractions of width and height.
        labels: (N, R) int, into ``label_names``; -1 = unknown, or no region.
        relations: (N, K, 3) int, subject region, predicate (into ``predicate_names``), object region; the most
            confident first; -1 = absent.
        relation_scores: (N, K) float in [0, 1], or None when all are certain.
        label_names: names of the object classes.
        predicate_names: names of the predicates.
        name: for error messages.

    Example:
        >>> graphs = SceneGraphs(
        ...     ["a.jpg"],
        ...     lengths=np.array([2]),
        ...     boxes=np.array([[[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]]),
        ...     labels=np.array([[1, 0]]),
        ...     relations=np.array([[[0, 0, 1]]]),
        ...     relation_scores=np.array([[0.9]]),
        ...     label_names=["ball", "dog"],
        ...     predicate_names=["with"],
        ... )
        >>> graphs
        SceneGraphs(scene graphs: 1 image, 1 relation, 1 predicate)
        >>> graphs.matched_to(np.array([[[0.5, 0.0, 1.0, 0.9], [0.0, 0.0, 0.5, 0.9]]])).relations.tolist()
        [[[1, 0, 0]]]
    """

    image_ids: list[str]
    lengths: Array
    boxes: Array
    labels: Array
    relations: Array
    relation_scores: Array | None
    label_names: list[str]
    predicate_names: list[str]
    name: str = "scene graphs"

    def __post_init__(self) -> None:
        """Check everything; see :mod:`itmatch.data.batching.validation`."""
        images, regions = self.boxes.shape[:2] if self.boxes.ndim == 3 else (len(self.image_ids), None)
        named = [f"{self.name}: {field}" for field in ("image_ids", "boxes", "labels", "relations", "relation_scores")]
        for problem in validation.length_problems(
            self.lengths, len(self.image_ids), regions, f"{self.name}: lengths", least=0
        ):
            raise ValueError(problem)
        checks = [
            validation.id_problems(self.image_ids, named[0], listed=True),
            validation.box_problems(self.boxes, len(self.image_ids), regions, named[1], self.lengths),
            validation.label_problems(self.labels, images, regions, named[2]),
            validation.relation_problems(self.relations, images, regions, named[3], self.lengths),
        ]
        if self.relation_scores is not None:
            checks.append(validation.score_problems(self.relation_scores, self.relations, named[4]))
        for problem in chain.from_iterable(checks):
            raise ValueError(problem)
        for field, values, names in (
            ("predicate", self.relations[..., 1], self.predicate_names),
            ("label", self.labels, self.label_names),
        ):
            if values.size and int(values.max()) >= len(names):
                raise ValueError(f"{self.name}: {field} {int(values.max())}, expected one of the {len(names)} names")

    def __len__(self) -> int:
        """N."""
        return len(self.image_ids)

    @property
    def num_relations(self) -> int:
        """Relations of all images together."""
        return int((self.relations != -1).all(-1).sum())

    def __repr__(self) -> str:
        relations = counted(self.num_relations, "relations")
        predicates = counted(len(self.predicate_names), "predicates")
        return f"SceneGraphs({self.name}: {counted(len(self), 'images')}, {relations}, {predicates})"

    def select(self, image_ids: Sequence[str], *, missing: Missing = "error") -> SceneGraphs:
        """The scene graphs of some images, in the order of their names.

        Args:
            image_ids: names of images.
            missing: what to do with an image without a scene graph: "error", or "empty" = no regions, no relations.
        """
        check_choice("missing", missing, "error", "empty")
        place = {name: row for row, name in enumerate(self.image_ids)}
        rows = np.array([place.get(name, -1) for name in check_several("image_ids", image_ids)], np.int64)
        absent = np.flatnonzero(rows < 0)
        if len(absent) and missing == "error":
            raise ValueError(
                f"{self.name}: no scene graph of image {image_ids[absent[0]]!r} ({len(absent)} of {len(rows)} images "
                f"have none); its images have names such as {', '.join(map(repr, self.image_ids[:2])) or 'none'}"
            )
        chosen = [
            self._graph(row) if row >= 0 else ImageGraph.empty(name) for name, row in zip(image_ids, rows, strict=True)
        ]
        return self._packed(chosen)

    def matched_to(
        self, boxes: Array, lengths: Array | None = None, *, min_iou: float = 0.5, max_relations: int | None = None
    ) -> SceneGraphs:
        """The same relations between the regions of another detector.

        Each region of the scene graph goes to the region that it overlaps most, if their IoU is ``min_iou`` or more; a
        relation whose subject or object goes nowhere is left out, and so is one whose subject and object go to one
        region. Regions get the label of the region of the scene graph that they overlap most, if any.

        Args:
            boxes: (N, R, 4) float, as fractions, of the same images in the same order.
            lengths: (N,) int, regions an image really has; None = all R.
            min_iou: smallest intersection over union of two regions that are taken for one.
            max_relations: relations of an image to keep, the most confident of those that remain; None = all.
        """
        if not 0 < min_iou <= 1:
            raise ValueError(f"min_iou: {min_iou}, expected above 0 and at most 1")
        for problem in validation.box_problems(boxes, len(self), None, f"{self.name}: boxes to match", lengths):
            raise ValueError(problem)
        counts = np.full(len(boxes), boxes.shape[1]) if lengths is None else lengths
        matched = [
            strongest(_match(self._graph(row), boxes[row, : counts[row]], min_iou), max_relations)
            for row in range(len(self))
        ]
        return self._packed(matched, num_regions=boxes.shape[1])

    def save(self, folder: str | Path, split: str, *, regions: bool = False, overwrite: bool = False) -> None:
        """Write ``{split}_relations.npy``, ``{split}_relation_scores.npy`` and ``predicates.json``.

        :class:`PrecompFolder` reads them. The files take their places together, when all are written; the relations
        are the last, since without them the others are not read.

        Args:
            folder: where the features are.
            split: beginning of the files' names.
            regions: also write ``{split}_boxes.npy``, ``{split}_labels.npy``, ``{split}_lengths.npy`` and
                ``labels.json``, for features of the very regions of the scene graphs.
            overwrite: replace the files of the split. ``predicates.json`` and ``labels.json`` belong to all splits and
                are never replaced.

        Raises:
            FileExistsError: a file of the split is there already.
            ValueError: the names there are others, or an image has no region although ``regions`` are wanted.
        """
        folder = user_path(folder)
        vocabularies = {folder / "predicates.json": self.predicate_names}
        arrays: dict[str, Array] = {}
        if self.relation_scores is not None:
            arrays["relation_scores"] = self.relation_scores.astype(np.float32)
        if regions:
            vocabularies[folder / "labels.json"] = self.label_names
            if not bool((self.lengths > 0).all()):
                raise ValueError(f"{self.name}: image {self.image_ids[int(self.lengths.argmin())]!r} has no region")
            arrays |= {"boxes": self.boxes.astype(np.float32), "labels": _small(self.labels)}
            arrays |= {"lengths": _small(self.lengths)}
        arrays["relations"] = _small(self.relations)  # last, see above
        for path, names in vocabularies.items():
            if path.exists() and read_json(path, list) != names:
                raise ValueError(
                    f"{path}: other names than those of {self.name}; read the scene graphs with these names, or remove "
                    "the file and write all splits again"
                )
        files = {stem: folder / f"{split}_{stem}.npy" for stem in ("relations", "relation_scores", *arrays)}
        there = [path for path in files.values() if path.exists()]
        if there and not overwrite:
            raise FileExistsError(f"{there[0]}: is there already")
        others = [path for stem, path in files.items() if stem not in arrays]  # scores of other relations must not stay
        with written_together(removing=others):
            for path, names in vocabularies.items():
                if not path.exists():
                    write_text(path, json.dumps(names, ensure_ascii=False) + "\n")
            for stem, array in arrays.items():
                save_array(files[stem], array)

    def _graph(self, row: int) -> ImageGraph:
        count = int(self.lengths[row])
        present = (self.relations[row] != -1).all(-1)
        return ImageGraph(
            self.image_ids[row],
            np.asarray(self.boxes[row, :count]),
            np.asarray(self.labels[row, :count]),
            np.asarray(self.relations[row][present]),
            None if self.relation_scores is None else np.asarray(self.relation_scores[row][present]),
        )

    def _packed(self, graphs: list[ImageGraph], num_regions: int = 1) -> SceneGraphs:
        scored = self.relation_scores is not None
        return replace(self, **pack_columns(graphs, scored=scored, num_regions=num_regions))


def _match(graph: ImageGraph, boxes: Array, min_iou: float) -> ImageGraph:
    overlap = np.zeros((len(graph.boxes), len(boxes)), np.float32)
    if overlap.size:
        overlap = box_iou(*(torch.from_numpy(np.array(b, np.float32)) for b in (graph.boxes, boxes))).numpy()
        target = np.where(overlap.max(1) >= min_iou, overlap.argmax(1), -1)
        labels = np.where(overlap.max(0) >= min_iou, graph.labels[overlap.argmax(0)], -1)
    else:
        target, labels = np.full(len(graph.boxes), -1), np.full(len(boxes), -1)
    relations = graph.relations.copy()
    relations[:, ::2] = target[relations[:, ::2]]
    moved = replace(graph, boxes=boxes, labels=labels, relations=relations)
    return moved.kept((relations != -1).all(-1))


def _small(values: Array) -> Array:
    return values.astype(np.int16 if values.size == 0 or int(values.max()) < 2**15 else np.int32)
