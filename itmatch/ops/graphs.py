"""Graphs over the fragments of a batch: spatial edges from boxes, semantic edges from scene graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from itmatch.batch import SceneGraph
from itmatch.ops.checks import check_choice, check_share, check_whole, check_whole_or_none
from itmatch.ops.geometry import box_iou
from itmatch.tensordata import readable

SpatialWeight = Literal["iou", "ones"]

_BEYOND = 0.01  # how far outside the image a box may reach, for the rounding of detectors and of file formats


@dataclass(frozen=True, eq=False)
class EdgeList:
    """Weighted directed edges of a batch of graphs, as one graph of disjoint parts.

    The nodes are the places of the padded batch, row after row: place ``l`` of row ``n`` is node ``n * L + l``. These
    are the conventions of ``torch_geometric``; a message goes from source to target.

    Args:
        edge_index: (2, E) int64, source and target node of each edge.
        edge_weight: (E,) float, not negative; an edge of weight 0 carries nothing.
        edge_type: (E,) int64, or None when edges are untyped.
        num_nodes: N * L, padded places included.

    Example:
        >>> edges = EdgeList(torch.tensor([[0, 4], [2, 3]]), torch.ones(2), None, 6)
        >>> len(edges)
        2
    """

    edge_index: Tensor
    edge_weight: Tensor
    edge_type: Tensor | None
    num_nodes: int

    def __post_init__(self) -> None:
        """Check shapes and dtypes."""
        edges = self.edge_weight.shape[0] if self.edge_weight.ndim else 0
        if tuple(self.edge_index.shape) != (2, edges) or self.edge_index.dtype != torch.int64:
            found = f"{tuple(self.edge_index.shape)} {self.edge_index.dtype}"
            raise ValueError(f"EdgeList.edge_index: {found}, expected {(2, edges)} torch.int64")
        if tuple(self.edge_weight.shape) != (edges,) or not self.edge_weight.is_floating_point():
            found = f"{tuple(self.edge_weight.shape)} {self.edge_weight.dtype}"
            raise ValueError(f"EdgeList.edge_weight: {found}, expected one dimension of floats")
        kind = self.edge_type
        if kind is not None and (tuple(kind.shape) != (edges,) or kind.dtype != torch.int64):
            found = f"{tuple(kind.shape)} {kind.dtype}"
            raise ValueError(f"EdgeList.edge_type: {found}, expected {(edges,)} torch.int64")

    def __len__(self) -> int:
        """Number of edges."""
        return self.edge_weight.shape[0]


def spatial_adjacency(boxes: Tensor, mask: Tensor, threshold: float = 0.4, weight: SpatialWeight = "iou") -> Tensor:
    """The edges of :func:`spatial_graph` as matrices.

    Args:
        boxes: (N, L, 4) x1 y1 x2 y2, fractions of width and height of the image.
        mask: (N, L) bool, True for real boxes; the others are never read.
        threshold: smallest IoU of two boxes that are joined, from 0 (all are) to 1.
        weight: ``"iou"`` or ``"ones"``.

    Returns:
        (N, L, L) weights, 0 where there is no edge; symmetric; in at least float32.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0], [0.9, 0.9, 1.0, 1.0]]])
        >>> spatial_adjacency(boxes, torch.ones(1, 3, dtype=torch.bool))[0].tolist()
        [[0.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    joined, iou = _joined(boxes, mask, threshold, weight)
    return iou.masked_fill(~joined, 0) if weight == "iou" else joined.to(iou.dtype)


def spatial_graph(boxes: Tensor, mask: Tensor, threshold: float = 0.4, weight: SpatialWeight = "iou") -> EdgeList:
    """Edges both ways between boxes of one image that overlap enough; none from a box to itself.

    Args:
        boxes: (N, L, 4) x1 y1 x2 y2, fractions of width and height of the image.
        mask: (N, L) bool, True for real boxes; the others are never read.
        threshold: smallest IoU of two boxes that are joined. 0 gives the complete graph; its disjoint boxes have IoU 0,
            and an edge of weight 0 carries nothing, so take ``weight="ones"`` there.
        weight: ``"iou"`` or ``"ones"``.

    Raises:
        ValueError: a real box that is not finite, reaches out of the image by more than 0.01 (coordinates in pixels,
            for instance), or has its corners in the wrong order. Looked for on the CPU only.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0], [0.9, 0.9, 1.0, 1.0]]])
        >>> edges = spatial_graph(boxes, torch.ones(1, 3, dtype=torch.bool))
        >>> edges.edge_index.tolist(), edges.edge_weight.tolist()
        ([[1, 0], [0, 1]], [0.5, 0.5])
    """
    joined, iou = _joined(boxes, mask, threshold, weight)
    row, target, source = joined.nonzero().unbind(1)  # sorted by target
    values = iou[row, target, source]
    start = row * mask.shape[1]
    index = torch.stack((start + source, start + target))
    return EdgeList(index, values if weight == "iou" else torch.ones_like(values), None, mask.numel())


def semantic_graph(
    scene_graph: SceneGraph | None,
    mask: Tensor,
    min_confidence: float = 0.0,
    *,
    num_predicates: int | None = None,
    inverse: bool = True,
) -> EdgeList:
    """The edges of a batch of scene graphs, weighted by their confidence.

    Args:
        scene_graph: None stands for no edges.
        mask: (N, L) bool, True for real nodes.
        min_confidence: leave out edges below it. Edges without a confidence count as 1.
        num_predicates: number of classes of relations; the type of an edge is then its predicate. None = untyped.
        inverse: add every edge from object to subject too; its type is ``predicate + num_predicates``.

    Raises:
        ValueError: edges that join no real nodes; typed edges without a predicate, or with one outside
            ``0..num_predicates - 1``. Values are looked at on the CPU only.

    Example:
        >>> graph = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([1]), 2, predicate=torch.tensor([3]))
        >>> edges = semantic_graph(graph, torch.ones(2, 2, dtype=torch.bool), num_predicates=5)
        >>> edges.edge_index.tolist(), edges.edge_type.tolist()
        ([[2, 3], [3, 2]], [3, 8])
    """
    check_whole_or_none("num_predicates", num_predicates)
    check_share("min_confidence", min_confidence)
    if scene_graph is not None:
        scene_graph.check_nodes(mask)
    if scene_graph is None or scene_graph.row.numel() == 0:
        return _no_edges(mask, typed=num_predicates is not None)
    if num_predicates is not None:
        _check_predicates(scene_graph, num_predicates)
    index = scene_graph.edge_index + scene_graph.row * mask.shape[1]  # (2, E)
    confidence, kind = scene_graph.confidence, None if num_predicates is None else scene_graph.predicate
    weight = torch.ones_like(scene_graph.row, dtype=torch.float32) if confidence is None else confidence
    if confidence is not None and min_confidence > 0:
        kept = (confidence >= min_confidence).nonzero().squeeze(1)
        index, weight, kind = index[:, kept], weight[kept], None if kind is None else kind[kept]
    if inverse:
        index, weight = torch.cat((index, index.flip(0)), 1), weight.repeat(2)
        kind = None if kind is None or num_predicates is None else torch.cat((kind, kind + num_predicates))
    return EdgeList(index, weight, kind, mask.numel())


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
    wide = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).masked_fill(~mask[..., None], 0)
    centres = (wide[..., :2] + wide[..., 2:]) / 2
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    distance = (centres[:, :, None] - centres[:, None]).square().sum(3)  # cdist rounds otherwise for more boxes
    # stable, so that of others at the same distance, as windows of a grid are, the first are taken whatever the padding
    nearest, other = distance.masked_fill(~mask[:, None] | itself, torch.inf).sort(stable=True)
    nearest, other = nearest[..., :count], other[..., :count]  # (N, L, k)
    row, box, place = (nearest.isfinite() & mask[..., None]).nonzero(as_tuple=True)
    return row, torch.stack((box, other[row, box, place]))


def strongest_edges(scene_graph: SceneGraph, min_confidence: float = 0.0, most: int | None = None) -> Tensor:
    """Which edges of a batch of scene graphs are confident enough, and among the most confident of their row.

    Args:
        scene_graph: E edges; without confidences all count as 1.
        min_confidence: leave out edges below it.
        most: keep so many edges a row, the earlier ones where confidences are equal; None = all.

    Returns:
        int64, places of the edges that are kept, in their order.

    Example:
        >>> edges, row = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 0, 1])
        >>> graph = SceneGraph(edges, row, 2, confidence=torch.tensor([0.5, 0.9, 0.1]))
        >>> strongest_edges(graph, most=1).tolist()
        [1, 2]
    """
    check_share("min_confidence", min_confidence)
    check_whole_or_none("most", most, 0)
    row, confidence = scene_graph.row, scene_graph.confidence
    kept = torch.ones_like(row, dtype=torch.bool) if confidence is None else confidence >= min_confidence
    if most is not None:
        order = torch.arange(len(row), device=row.device)
        if confidence is not None:
            order = confidence.argsort(descending=True, stable=True)
        order = order[row[order].argsort(stable=True)]  # by row, then by confidence
        counts = torch.bincount(row, minlength=len(scene_graph))
        start = (counts.cumsum(0) - counts)[row[order]]
        place = torch.empty_like(row).index_put((order,), torch.arange(len(row), device=row.device) - start)
        kept = kept & (place < most)
    return kept.nonzero()[:, 0]


def _joined(boxes: Tensor, mask: Tensor, threshold: float, weight: SpatialWeight) -> tuple[Tensor, Tensor]:
    """(N, L, L) bool, which boxes an edge joins, and (N, L, L) IoU in at least float32."""
    check_share("threshold", threshold)
    check_choice("weight", weight, "iou", "ones")
    check_boxes(boxes, mask)
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).masked_fill(~mask[..., None], 0)
    iou = box_iou(boxes, boxes)
    others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return (iou >= threshold) & mask[:, :, None] & mask[:, None, :] & others, iou


def _no_edges(mask: Tensor, *, typed: bool) -> EdgeList:
    index = torch.zeros(2, 0, dtype=torch.int64, device=mask.device)
    return EdgeList(index, torch.zeros(0, device=mask.device), index[0] if typed else None, mask.numel())


def check_boxes(boxes: Tensor, mask: Tensor) -> None:
    """Raise unless boxes (N, L, 4) fit the mask (N, L) and the real ones (on the CPU) are boxes in fractions."""
    if tuple(boxes.shape) != (*mask.shape, 4) or not boxes.is_floating_point():
        raise ValueError(f"boxes: {tuple(boxes.shape)} {boxes.dtype}, expected {(*mask.shape, 4)} of floats")
    if not readable(boxes):
        return
    inside = ((boxes >= -_BEYOND) & (boxes <= 1 + _BEYOND)).all(-1)  # False for NaN
    good = inside & (boxes[..., :2] <= boxes[..., 2:]).all(-1)
    if not bool((good | ~mask).all()):
        row, place = (~good & mask).nonzero()[0].tolist()
        raise ValueError(
            f"boxes: {[round(value, 4) for value in boxes[row, place].tolist()]} at row {row}, place {place}, expected "
            "finite x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, as fractions of width and height (0 to 1)"
        )


def _check_predicates(graph: SceneGraph, num_predicates: int) -> None:
    if graph.predicate is None:
        raise ValueError(
            "SceneGraph.predicate: None, expected the class of every edge, because edges are typed by "
            f"num_predicates={num_predicates} (num_predicates=None takes untyped edges)"
        )
    if not readable(graph.predicate):
        return
    wrong = (graph.predicate < 0) | (graph.predicate >= num_predicates)
    if bool(wrong.any()):
        edge = int(wrong.nonzero()[0])
        raise ValueError(
            f"SceneGraph.predicate: {int(graph.predicate[edge])} at edge {edge} of row {int(graph.row[edge])}, "
            f"expected 0..{num_predicates - 1}"
        )
