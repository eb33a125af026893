"""Graphs over the fragments of a batch: spatial edges from boxes, semantic edges from scene graphs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from itmatch.batch import SceneGraph
from itmatch.hostcopies import on_host, sent
from itmatch.ops.checks import check_choice, check_share, check_whole, check_whole_or_none
from itmatch.ops.geometry import box_iou
from itmatch.ops.masking import at_least_float32
from itmatch.tensordata import readable

SpatialWeight = Literal["iou", "ones"]

_BEYOND = 0.01  # how far outside the image a box may reach, for the rounding of detectors and of file formats


@dataclass(frozen=True, eq=False)
class Edges:
    """Weighted directed edges between the fragments (N, L) of a batch, as a list or as one matrix per row.

    The nodes of a list are the positions of the padded batch, row after row: position ``l`` of row ``n`` is node
    ``n * L + l``. These are the names and conventions of ``torch_geometric``; a message goes from source to target.

    Args:
        edge_weight: (E,) for a list, or matrices (N, L, L) with entry ``[n, target, source]``; not negative, 0 = no
            edge.
        edge_index: (2, E) int64, source and target node of each edge of a list; None for matrices.
        edge_attr: what else is known of each edge, for instance its type (E,) or its geometry (E, 8); None = nothing.

    Example:
        >>> edges = Edges(torch.ones(2), torch.tensor([[0, 4], [2, 3]]))
        >>> edges.matrices(edges.edge_weight, 2, 3)[1].tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    edge_weight: Tensor
    edge_index: Tensor | None = None
    edge_attr: Tensor | None = None

    def as_list(self) -> Edges:
        """Matrices without attributes as a list of the edges of a weight above 0, sorted by target."""
        row, target, source = self.edge_weight.nonzero().unbind(1)
        nodes = torch.stack((source, target)) + row * self.edge_weight.shape[1]
        return Edges(self.edge_weight[row, target, source], nodes)

    def matrices(self, values: Tensor, n: int, length: int) -> Tensor:
        """Values of the edges as matrices (N, L, L, ...); those of repeated edges are added."""
        if self.edge_index is None:
            return values
        source, target = self.edge_index
        flat = values.new_zeros(n * length * length, *values.shape[1:])
        summed = flat.index_add(0, target * length + source % length, values)
        return summed.view(n, length, length, *values.shape[1:])

    def ends(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N, L, ...) of the nodes, at the target and at the source of each edge; the two broadcast."""
        if self.edge_index is None:
            return values[:, :, None], values[:, None]
        source, target = self.edge_index
        flat = values.flatten(0, 1)
        return flat[target], flat[source]

    def normalized(self, n: int, length: int) -> tuple[Edges, Tensor]:
        """The edges with weights that sum to 1 at each target, and (N, L) bool, the nodes that have such a sum."""
        weight, tiny = self.edge_weight, torch.finfo(self.edge_weight.dtype).tiny
        if self.edge_index is None:
            total = weight.sum(2)
            return replace(self, edge_weight=weight / total.clamp(min=tiny)[..., None]), total > 0
        target = self.edge_index[1]
        total = weight.new_zeros(n * length).index_add(0, target, weight)
        return replace(self, edge_weight=weight / total.clamp(min=tiny)[target]), (total > 0).view(n, length)


def spatial_graph(boxes: Tensor, mask: Tensor, threshold: float = 0.4, weight: SpatialWeight = "iou") -> Edges:
    """Edges both ways between boxes of one image that overlap enough; none from a box to itself.

    Args:
        boxes: (N, L, 4) x1 y1 x2 y2, fractions of width and height of the image.
        mask: (N, L) bool, True for real boxes; the others are never read.
        threshold: smallest IoU of two boxes that are joined. 0 gives the complete graph; its disjoint boxes have IoU 0,
            and an edge of weight 0 carries nothing, so take ``weight="ones"`` there.
        weight: ``"iou"`` or ``"ones"``.

    Returns:
        Symmetric matrices, in at least float32.

    Raises:
        ValueError: a real box that is not finite, reaches out of the image by more than 0.01 (coordinates in pixels,
            for instance), or has its corners in the wrong order. Looked for on the CPU only.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0], [0.9, 0.9, 1.0, 1.0]]])
        >>> edges = spatial_graph(boxes, torch.ones(1, 3, dtype=torch.bool))
        >>> edges.edge_weight[0].tolist()
        [[0.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]
        >>> edges.as_list().edge_index.tolist()
        [[1, 0], [0, 1]]
    """
    check_share("threshold", threshold)
    check_choice("weight", weight, "iou", "ones")
    check_boxes(boxes, mask)
    boxes = at_least_float32(boxes).masked_fill(~mask[..., None], 0)
    iou = box_iou(boxes, boxes)
    others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    joined = (iou >= threshold) & mask[:, :, None] & mask[:, None, :] & others
    return Edges(iou.masked_fill(~joined, 0) if weight == "iou" else joined.to(iou.dtype))


def semantic_graph(
    scene_graph: SceneGraph, mask: Tensor, min_confidence: float = 0.0, *, num_predicates: int | None = None
) -> Edges:
    """The edges of a batch of scene graphs, weighted by their confidence; each of them both ways.

    Args:
        scene_graph: edges without a confidence count as 1.
        mask: (N, L) bool, True for real nodes.
        min_confidence: leave out edges below it.
        num_predicates: number P of classes of relations; the type of an edge, its attribute, is then its predicate,
            and ``predicate + P`` from object to subject. None = untyped.

    Returns:
        A list.

    Raises:
        ValueError: edges that join no real nodes; typed edges without a predicate, or with one outside
            ``0..num_predicates - 1``. Values are looked at on the CPU only.

    Example:
        >>> graph = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([1]), 2, predicate=torch.tensor([3]))
        >>> edges = semantic_graph(graph, torch.ones(2, 2, dtype=torch.bool), num_predicates=5)
        >>> edges.edge_index.tolist(), edges.edge_attr.tolist()
        ([[2, 3], [3, 2]], [3, 8])
    """
    check_whole_or_none("num_predicates", num_predicates)
    scene_graph.check_nodes(mask)
    types = None if num_predicates is None else _types(scene_graph, num_predicates)
    index = scene_graph.edge_index + scene_graph.row * mask.shape[1]  # (2, E)
    weight = scene_graph.confidence
    weight = torch.ones_like(scene_graph.row, dtype=torch.float32) if weight is None else weight
    if check_share("min_confidence", min_confidence) > 0:
        kept = sent((on_host(weight) >= min_confidence).nonzero().squeeze(1), weight.device)
        index, weight, types = index[:, kept], weight[kept], None if types is None else types[kept]
    if types is not None and num_predicates is not None:
        types = torch.cat((types, types + num_predicates))
    return Edges(weight.repeat(2), torch.cat((index, index.flip(0)), 1), types)


def nearest_boxes(boxes: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each real box with the others of its image whose centres are nearest; of equally near ones, the first.

    Args:
        boxes: (N, L, 4) x1 y1 x2 y2, fractions of width and height of the image.
        mask: (N, L) bool, True for real boxes; the others are never read.
        count: how many others; fewer where an image has not as many.

    Returns:
        Rows (E,) of the batch, and ends (2, E) within the row: a box, and one near it.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0.0, 0.1, 0.1], [0.2, 0.0, 0.3, 0.1], [0.9, 0.9, 1.0, 1.0]]])
        >>> nearest_boxes(boxes, torch.ones(1, 3, dtype=torch.bool), 1)[1].tolist()
        [[0, 1, 2], [1, 0, 1]]
    """
    check_boxes(boxes, mask)
    check_whole("count", count, 0)
    wide = at_least_float32(boxes).masked_fill(~mask[..., None], 0)
    centres = (wide[..., :2] + wide[..., 2:]) / 2
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    distance = (centres[:, :, None] - centres[:, None]).square().sum(3)  # cdist rounds otherwise for more boxes
    # stable, so that of others at the same distance, as windows of a grid are, the first are taken whatever the padding
    other = distance.masked_fill(~mask[:, None] | itself, torch.inf).argsort(stable=True)[..., :count]  # (N, L, k)
    here = on_host(mask)
    there_are = torch.arange(other.shape[2]) < here.sum(1)[:, None, None] - 1  # (N, 1, k) others, which come first
    row, box, rank = (sent(x, mask.device) for x in (there_are & here[..., None]).nonzero(as_tuple=True))
    return row, torch.stack((box, other[row, box, rank]))


def strongest_edges(scene_graph: SceneGraph, min_confidence: float = 0.0, most: int | None = None) -> Tensor:
    """Which edges of a batch of scene graphs are confident enough, and among the most confident of their row.

    Args:
        scene_graph: E edges; without confidences all count as 1.
        min_confidence: leave out edges below it.
        most: how many edges to keep per row, the earlier ones where confidences are equal; None = all.

    Returns:
        int64, positions of the edges that are kept, in their order.

    Example:
        >>> edges, row = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 0, 1])
        >>> graph = SceneGraph(edges, row, 2, confidence=torch.tensor([0.5, 0.9, 0.1]))
        >>> strongest_edges(graph, most=1).tolist()
        [1, 2]
    """
    check_share("min_confidence", min_confidence)
    check_whole_or_none("most", most, 0)
    row, confidence = on_host(scene_graph.row), scene_graph.confidence
    confidence = None if confidence is None else on_host(confidence)
    kept = torch.ones_like(row, dtype=torch.bool) if confidence is None else confidence >= min_confidence
    if most is not None:
        order = torch.arange(len(row))
        if confidence is not None:
            order = confidence.argsort(descending=True, stable=True)
        order = order[row[order].argsort(stable=True)]  # by row, then by confidence
        counts = torch.bincount(row, minlength=len(scene_graph))
        start = (counts.cumsum(0) - counts)[row[order]]
        rank = torch.empty_like(row).index_put((order,), torch.arange(len(row)) - start)
        kept = kept & (rank < most)
    return sent(kept.nonzero()[:, 0], scene_graph.row.device)


def check_boxes(boxes: Tensor, mask: Tensor) -> None:
    """Raise unless boxes (N, L, 4) fit the mask (N, L) and the real ones (on the CPU) are boxes in fractions."""
    if tuple(boxes.shape) != (*mask.shape, 4) or not boxes.is_floating_point():
        raise ValueError(f"boxes: {tuple(boxes.shape)} {boxes.dtype}, expected {(*mask.shape, 4)} of floats")
    if not readable(boxes):
        return
    inside = ((boxes >= -_BEYOND) & (boxes <= 1 + _BEYOND)).all(-1)  # False for NaN
    good = inside & (boxes[..., :2] <= boxes[..., 2:]).all(-1)
    if not bool((good | ~mask).all()):
        row, position = (~good & mask).nonzero()[0].tolist()
        raise ValueError(
            f"boxes: {[round(value, 4) for value in boxes[row, position].tolist()]} at row {row}, position {position}, "
            "expected finite x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, as fractions of width and height (0 to 1)"
        )


def _types(graph: SceneGraph, num_predicates: int) -> Tensor:
    """(E,) predicates, all of them below their number."""
    if graph.predicate is None and not len(graph.row):
        return graph.row
    if graph.predicate is None:
        raise ValueError(
            "SceneGraph.predicate: None, expected the class of every edge, because edges are typed by "
            f"num_predicates={num_predicates} (num_predicates=None takes untyped edges)"
        )
    wrong = (graph.predicate < 0) | (graph.predicate >= num_predicates)
    if readable(wrong) and bool(wrong.any()):
        edge = int(wrong.nonzero()[0])
        raise ValueError(
            f"SceneGraph.predicate: {int(graph.predicate[edge])} at edge {edge} of row {int(graph.row[edge])}, "
            f"expected 0..{num_predicates - 1}"
        )
    return graph.predicate
