"""The shared words of the library: small dataclasses of tensors.

Sizes: ``I`` images, ``T`` captions, ``R`` regions per image, ``W`` words per caption, ``F`` input features, ``D``
embedding size, ``E`` edges. Masks are boolean, True where something real stands; whatever lies in padded places is
never read.

What is validated on construction: shapes and dtypes always; values (finite, at least one real fragment per row, edges
inside the graph) when the tensors are on the CPU, where looking costs no synchronisation. Moving between devices
does not look again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from itmatch.errors import NonFiniteError
from itmatch.hostcopies import followed
from itmatch.tensordata import RowData, Rows, TensorData, check_mask, check_tensor, chosen_rows, readable


@dataclass(eq=False, repr=False)
class SceneGraph(TensorData):
    """The directed edges of a batch of graphs, whose nodes are the fragments of a row.

    Args:
        edge_index: (2, E) int64, source and target node of each edge, counted within its own row.
        row: (E,) int64, the row of the batch (image or caption) that an edge belongs to.
        num_rows: number of rows of the batch; a row may have no edge.
        predicate: (E,) int64 class of the relation, or None when edges are untyped.
        confidence: (E,) float in [0, 1], or None.
    """

    edge_index: Tensor
    row: Tensor
    num_rows: int
    predicate: Tensor | None = None
    confidence: Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes, dtypes and (on the CPU) values."""
        edges = self.edge_index.shape[-1] if self.edge_index.ndim else 0
        check_tensor("SceneGraph.edge_index", self.edge_index, (2, edges), torch.int64)
        check_tensor("SceneGraph.row", self.row, (edges,), torch.int64)
        if self.predicate is not None:
            check_tensor("SceneGraph.predicate", self.predicate, (edges,), torch.int64)
        if self.confidence is not None:
            check_tensor("SceneGraph.confidence", self.confidence, (edges,), "float")
        if not readable(self.edge_index) or edges == 0:
            return
        if self.row.min() < 0 or self.row.max() >= self.num_rows:
            raise ValueError(
                f"SceneGraph.row: {int(self.row.min())}..{int(self.row.max())} outside 0..{self.num_rows - 1}"
            )
        if self.edge_index.min() < 0:
            raise ValueError("SceneGraph.edge_index: negative node")
        if self.confidence is not None and not bool(((self.confidence >= 0) & (self.confidence <= 1)).all()):
            raise ValueError("SceneGraph.confidence: values outside [0, 1] (or NaN)")

    def __len__(self) -> int:
        """Number of rows."""
        return self.num_rows

    def __getitem__(self, rows: Rows) -> SceneGraph:
        """The graphs of one row, or of some consecutive ones."""
        found = chosen_rows(rows, self.num_rows, "SceneGraph")
        start, stop, step = found.indices(self.num_rows) if isinstance(found, slice) else (0, 0, 0)
        if step != 1:
            raise ValueError(f"SceneGraph: rows {rows}, expected a slice of consecutive ones")
        chosen = ((self.row >= start) & (self.row < stop)).nonzero()[:, 0]
        predicate, confidence = (None if x is None else x[chosen] for x in (self.predicate, self.confidence))
        edges, row = self.edge_index[:, chosen], self.row[chosen] - start
        return SceneGraph.unchecked(edges, row, max(0, stop - start), predicate, confidence)

    def check_nodes(self, mask: Tensor) -> None:
        """Raise unless there is one row per graph and every edge joins two real fragments of ``mask`` (N, L)."""
        if len(self) != len(mask):
            raise ValueError(f"SceneGraph has {len(self)} rows, the fragments have {len(mask)}")
        if not readable(mask) or self.row.numel() == 0:
            return
        if int(self.edge_index.max()) >= mask.shape[1] or not bool(mask[self.row, self.edge_index].all()):
            inside = self.edge_index < mask.shape[1]
            valid = mask[self.row, self.edge_index.clamp(max=mask.shape[1] - 1)] & inside
            edge = int((~valid.all(0)).nonzero()[0])
            raise ValueError(
                f"SceneGraph edge {edge} joins nodes {self.edge_index[:, edge].tolist()} of row {int(self.row[edge])}, "
                f"which has {int(mask[self.row[edge]].sum())} nodes"
            )


@dataclass(eq=False, repr=False)
class Regions(RowData):
    """Region features of a batch of images.

    Args:
        features: (I, R, F) float.
        mask: (I, R) bool; None = all real.
        boxes: (I, R, 4) float, x1 y1 x2 y2 as fractions of width and height, or None.
        labels: (I, R) int64 object classes, -1 = unknown, or None.
        graph: relations between the regions, or None.
    """

    features: Tensor
    mask: Tensor = None  # type: ignore[assignment] # filled in below
    boxes: Tensor | None = None
    labels: Tensor | None = None
    graph: SceneGraph | None = None

    def __post_init__(self) -> None:
        """Check shapes, dtypes and (on the CPU) values."""
        self._fill_mask(self.features)
        _check_sequence("Regions", self.features, self.mask)
        if self.boxes is not None:
            check_tensor("Regions.boxes", self.boxes, (*self.mask.shape, 4), "float")
            _check_finite("Regions.boxes", self.boxes, self.mask)
        if self.labels is not None:
            check_tensor("Regions.labels", self.labels, tuple(self.mask.shape), torch.int64)
        if self.graph is not None:
            self.graph.check_nodes(self.mask)


@dataclass(eq=False, repr=False)
class Captions(RowData):
    """Token ids of a batch of captions.

    Args:
        input_ids: (T, W) int64.
        mask: (T, W) bool; None = all real.
        graph: relations between the tokens, or None where no parse was given at all; a caption that was parsed and
            has no relations is a row without edges. ``edge_index`` joins the token of a relation's subject to that of
            its object; ``predicate`` is no class but a place as well, of the predicate's token in the same row, or -1
            where no token stands for it (words that are only adjacent, edges of a dependency tree).
    """

    input_ids: Tensor
    mask: Tensor = None  # type: ignore[assignment] # filled in below
    graph: SceneGraph | None = None

    def __post_init__(self) -> None:
        """Check shapes, dtypes and (on the CPU) values."""
        self._fill_mask(self.input_ids)
        check_tensor("Captions.input_ids", self.input_ids, tuple(self.mask.shape), torch.int64)
        check_mask("Captions", self.mask)
        if readable(self.input_ids) and bool(((self.input_ids < 0) & self.mask).any()):
            raise ValueError("Captions.input_ids: negative token id")
        if self.graph is not None:
            self.graph.check_nodes(self.mask)
            self._check_predicates(self.graph)

    def _check_predicates(self, graph: SceneGraph) -> None:
        """Raise unless every predicate is -1 or the place of a real token of its row."""
        if graph.predicate is None or not readable(self.mask) or graph.predicate.numel() == 0:
            return
        inside = (graph.predicate >= 0) & (graph.predicate < self.mask.shape[1])
        place = graph.predicate.clamp(0, self.mask.shape[1] - 1)
        bad = ~(inside & self.mask[graph.row, place]) & (graph.predicate != -1)
        if bool(bad.any()):
            edge = int(bad.nonzero()[0])
            row = int(graph.row[edge])
            raise ValueError(
                f"Captions.graph: edge {edge} has its predicate at token {int(graph.predicate[edge])} of row {row}, "
                f"which has {int(self.mask[row].sum())} tokens (-1 = no token stands for it)"
            )


@dataclass(eq=False, repr=False)
class Fragments(RowData):
    """Encoded regions of images, or encoded words of captions; and their relations, where an encoder makes some.

    Args:
        features: (N, L, D) float.
        mask: (N, L) bool; None = all real.
        pooled: (N, D) float, one vector per row, or None when the encoder makes none.
        is_relation: (N, L) bool, True where a fragment stands for a relation between two others, or None when there
            are no such fragments. A row may have none; it always has one other fragment at least.
    """

    features: Tensor
    mask: Tensor = None  # type: ignore[assignment] # filled in below
    pooled: Tensor | None = None
    is_relation: Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes, dtypes and (on the CPU) values."""
        self._fill_mask(self.features)
        _check_sequence("Fragments", self.features, self.mask)
        if self.pooled is not None:
            check_tensor("Fragments.pooled", self.pooled, (self.features.shape[0], *self.pooled.shape[1:2]), "float")
            _check_finite("Fragments.pooled", self.pooled[:, None], self.mask.new_ones(len(self.mask), 1))
        if self.is_relation is not None:
            check_tensor("Fragments.is_relation", self.is_relation, tuple(self.mask.shape), torch.bool)
            if readable(self.mask):
                bare = ~(self.mask & ~self.is_relation).any(1)
                if bool(bare.any()):
                    raise ValueError(
                        f"Fragments: row {int(bare.nonzero()[0])} has relations and nothing that they join"
                    )

    def objects(self) -> Fragments:
        """The fragments that are no relations: regions or words, in their places."""
        if self.is_relation is None:
            return self
        mask = followed(torch.gt, self.mask, self.is_relation)  # the one and not the other
        return Fragments.unchecked(self.features, mask, self.pooled)

    def relations(self) -> Fragments | None:
        """The fragments that are relations, in their places; a row may have none. None where an encoder makes none."""
        if self.is_relation is None:
            return None
        return Fragments.unchecked(self.features, followed(torch.logical_and, self.mask, self.is_relation), self.pooled)

    @staticmethod
    def cat(parts: list[Fragments]) -> Fragments:
        """Rows of several batches in one, padded to the longest."""
        if not parts:
            raise ValueError("Fragments.cat: no parts")
        length = max(part.mask.shape[1] for part in parts)
        joined: dict[str, Tensor] = {}
        for field in fields(Fragments):
            values = [value for part in parts if (value := getattr(part, field.name)) is not None]
            if len(values) not in (0, len(parts)):
                raise ValueError(f"Fragments.cat: some parts have {field.name} and some have none")
            if values:
                cat = _cat if field.name == "pooled" else partial(_cat, length=length)
                joined[field.name] = followed(cat, *values)
        return Fragments.unchecked(**joined)


@dataclass(eq=False, repr=False)
class Batch(TensorData):
    """What a loader yields: images, captions, or both, with their places in the dataset.

    Args:
        regions: the images, or None in a batch of captions alone.
        captions: the captions, or None in a batch of images alone.
        image_index: (I,) int64, place of each image in its dataset.
        caption_index: (T,) int64, place of each caption in its dataset.
        caption_image: (T,) int64, place in the dataset of the image that a caption describes.
    """

    regions: Regions | None = None
    captions: Captions | None = None
    image_index: Tensor | None = None
    caption_index: Tensor | None = None
    caption_image: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that every present part comes with its indices."""
        for name, data, index in (
            ("image_index", self.regions, self.image_index),
            ("caption_index", self.captions, self.caption_index),
            ("caption_image", self.captions, self.caption_image),
        ):
            if (data is None) != (index is None):
                raise ValueError(f"Batch.{name} goes with its data: give both or neither")
            if data is not None and index is not None:
                check_tensor(f"Batch.{name}", index, (len(data),), torch.int64)

    def positives(self) -> Tensor:
        """(I, T) bool: which caption describes which image, from the indices."""
        if self.image_index is None or self.caption_image is None:
            raise ValueError("Batch.positives needs both images and captions")
        return self.image_index[:, None] == self.caption_image[None, :]


def _cat(*values: Tensor, length: int | None = None) -> Tensor:
    return torch.cat(values if length is None else [_widened(value, length) for value in values])


def _widened(values: Tensor, length: int) -> Tensor:
    """(n, l, ...) padded with 0 to (n, length, ...)."""
    missing = (0, length - values.shape[1])
    return pad(values, (0, 0) * (values.ndim - 2) + missing) if missing[1] else values


def _check_sequence(name: str, features: Tensor, mask: Tensor) -> None:
    if features.ndim != 3:
        raise ValueError(
            f"{name}.features: shape {tuple(features.shape)}, expected three dimensions (rows, length, size)"
        )
    check_tensor(f"{name}.features", features, (*features.shape[:2], features.shape[2]), "float")
    if tuple(mask.shape) != tuple(features.shape[:2]):
        raise ValueError(f"{name}.mask: shape {tuple(mask.shape)}, expected {tuple(features.shape[:2])}")
    check_mask(name, mask)
    _check_finite(f"{name}.features", features, mask)


def _check_finite(name: str, values: Tensor, mask: Tensor) -> None:
    if not readable(values) or bool(torch.isfinite(values.detach().sum())):
        return  # a finite sum has finite terms; the sum is much cheaper than isfinite of every term
    bad = ~torch.isfinite(values).all(-1) & mask
    if bool(bad.any()):
        row, place = bad.nonzero()[0].tolist()
        raise NonFiniteError(f"{name}: NaN or inf at row {row}, place {place}")
