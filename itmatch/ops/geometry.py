"""Geometry of boxes: areas, overlaps, relative and polar coordinates. Boxes are ``x1 y1 x2 y2``.

Computed, and returned, in at least float32: in half precision an area or a quotient of sizes is soon 0 or infinite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.ops.masking import at_least_float32

_SMALLEST = 1e-6  # of a width or height in a quotient: a degenerate box must not give inf


def box_area(boxes: Tensor) -> Tensor:
    """Area of boxes (..., 4), as (...); 0 for a box turned inside out.

    Example:
        >>> box_area(torch.tensor([0.0, 0.0, 0.5, 0.5]))
        tensor(0.2500)
    """
    width, height = _size(boxes)
    return width * height


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of all pairs of boxes; 0 where both boxes are empty.

    Args:
        a: (..., R, 4).
        b: (..., S, 4).

    Returns:
        (..., R, S), between 0 and 1.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]])
        >>> box_iou(boxes, boxes)
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    a, b = at_least_float32(a), at_least_float32(b)
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)  # (..., R, S)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - overlap
    return torch.where(union > 0, overlap / union.clamp(min=torch.finfo(union.dtype).tiny), 0)


def relative_geometry(boxes: Tensor) -> Tensor:
    """Where and how large every box is as seen from every other one.

    Args:
        boxes: (..., R, 4).

    Returns:
        (..., R, R, 4); entry ``[i, j]`` describes box ``j`` as seen from box ``i`` and is finite for empty boxes too.

    Formula:
        ``((x_j - x_i) / w_i, (y_j - y_i) / h_i, log(w_j / w_i), log(h_j / h_i))`` with centres ``x, y`` and sizes
        ``w, h`` of at least 1e-6.

    Example:
        >>> relative_geometry(torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0]]))[0, 1]
        tensor([1., 0., 0., 0.])
    """
    centre = _centre(boxes)
    size = torch.stack(_size(boxes), -1).clamp(min=_SMALLEST)  # (..., R, 2)
    shift = (centre[..., None, :, :] - centre[..., :, None, :]) / size[..., :, None, :]
    scale = size[..., None, :, :].log() - size[..., :, None, :].log()
    return torch.cat((shift, scale), -1)


def polar_geometry(boxes: Tensor) -> Tensor:
    """Distance and direction from every box's centre to every other's.

    Args:
        boxes: (..., R, 4).

    Returns:
        (..., R, R, 2): entry ``[i, j]`` is the distance of the centres, and the angle from ``i`` to ``j`` in radians
        in [-pi, pi], 0 = to the right, growing downwards as y does. Both are 0 where the centres coincide.

    Example:
        >>> polar_geometry(torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0]]))[1, 0]
        tensor([1.0000, 3.1416])
    """
    centre = _centre(boxes)
    shift = centre[..., None, :, :] - centre[..., :, None, :]  # (..., R, R, 2)
    distance = torch.linalg.vector_norm(shift, dim=-1)
    return torch.stack((distance, torch.atan2(shift[..., 1], shift[..., 0])), -1)


def _size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    boxes = at_least_float32(boxes)
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width, height


def _centre(boxes: Tensor) -> Tensor:
    boxes = at_least_float32(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2
