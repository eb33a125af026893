"""How boxes lie to each other, as a scene graph."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.batch import SceneGraph
from itmatch.ops.checks import check_share, check_whole_or_none
from itmatch.ops.geometry import box_area, box_iou
from itmatch.ops.masking import at_least_float32

BOX_PREDICATES = ("inside", "contains", "overlaps", "left of", "right of", "above", "below")
"""Names of the predicates of :func:`box_relations`, by number."""


def box_relations(
    boxes: Tensor,
    mask: Tensor | None = None,
    *,
    neighbours: int | None = None,
    min_inside: float = 0.9,
    min_iou: float = 0.3,
) -> SceneGraph:
    """One relation from every region to every other of its image, by their boxes alone.

    The first that holds: *inside*, *contains* (so much of the smaller box is in the larger one), *overlaps* (IoU),
    and else where the centre lies as seen from the other centre: along x (*left of*, *right of*) or y (*above*,
    *below*), whichever is farther. Of two equal boxes each *overlaps* the other.

    Args:
        boxes: (I, R, 4), x1 y1 x2 y2 as fractions of width and height.
        mask: (I, R) bool; None = all real.
        neighbours: relations from a region, those to the nearest centres; None = to all.
        min_inside: share of the smaller box's area that makes it *inside*.
        min_iou: of boxes that *overlap*.

    Returns:
        A graph with an edge from subject to object; predicates are places in ``BOX_PREDICATES``.

    Example:
        >>> left, right = [0.0, 0.0, 0.4, 1.0], [0.6, 0.0, 1.0, 1.0]
        >>> graph = box_relations(torch.tensor([[left, right]]))
        >>> [BOX_PREDICATES[number] for number in graph.predicate]
        ['left of', 'right of']
    """
    check_whole_or_none("neighbours", neighbours)
    check_share("min_inside", min_inside)
    check_share("min_iou", min_iou)
    boxes = at_least_float32(boxes)
    images, regions = boxes.shape[:2]
    mask = torch.ones(images, regions, dtype=torch.bool, device=boxes.device) if mask is None else mask
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    offset = centres[:, None] - centres[:, :, None]  # (I, R, R, 2): from the subject's centre to the object's
    wanted = mask[:, :, None] & mask[:, None, :] & ~torch.eye(regions, dtype=torch.bool, device=mask.device)
    if neighbours is not None and neighbours < regions:
        wanted = wanted & _nearest(offset, wanted, neighbours)
    row, subject, other = wanted.nonzero(as_tuple=True)
    predicate = _predicates(boxes, offset, min_inside, min_iou)[row, subject, other]
    return SceneGraph(torch.stack((subject, other)), row, images, predicate)


def _predicates(boxes: Tensor, offset: Tensor, min_inside: float, min_iou: float) -> Tensor:
    """(I, R, R) numbers of predicates."""
    area = box_area(boxes)
    subject, other = area[:, :, None], area[:, None, :]
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    touch = shared > 0
    x, y = offset.unbind(-1)
    beside = torch.where(x >= 0, 3, 4).where(x.abs() >= y.abs(), torch.where(y >= 0, 5, 6))
    beside = beside.where(~(box_iou(boxes, boxes) >= min_iou) | ~touch, 2)
    beside = beside.where(~(touch & (shared >= min_inside * other) & (other < subject)), 1)
    return beside.where(~(touch & (shared >= min_inside * subject) & (subject < other)), 0)


def _nearest(offset: Tensor, wanted: Tensor, count: int) -> Tensor:
    """(I, R, R) bool: the ``count`` nearest that are wanted; of equal distances the first."""
    distance = torch.linalg.vector_norm(offset, dim=-1).masked_fill(~wanted, torch.inf)
    order = distance.argsort(dim=-1, stable=True)[..., :count]
    return torch.zeros_like(wanted).scatter_(-1, order, value=True)
