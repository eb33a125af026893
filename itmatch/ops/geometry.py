"""Geometry of boxes: areas, overlaps, and how two boxes lie to each other. Boxes are ``x1 y1 x2 y2``.

Computed, and returned, in at least float32: in half precision an area or a quotient of sizes is soon 0 or infinite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.ops.masking import at_least_float32

GEOMETRY_SIZE = 8  # numbers of edge_geometry
_SMALLEST = 1e-3  # of a width, height or distance in a quotient; a thousandth of the image is less than a pixel or two


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


def edge_geometry(target: Tensor, source: Tensor) -> Tensor:
    """How the source box lies as seen from the target box.

    Args:
        target: (..., 4), as fractions of width and height.
        source: (..., 4); the two broadcast.

    Returns:
        (..., 8): offset of the centres (x, y), log ratios of width and height, cosine and sine of the direction
        (downwards is positive; 0 where the centres coincide), IoU, distance of the centres. Finite for empty boxes too.

    Example:
        >>> left, right = torch.tensor([0.0, 0.0, 0.5, 1.0]), torch.tensor([0.5, 0.0, 1.0, 1.0])
        >>> edge_geometry(left, right)
        tensor([0.5000, 0.0000, 0.0000, 0.0000, 1.0000, 0.0000, 0.0000, 0.5000])
    """
    target, source = at_least_float32(target), at_least_float32(source)
    size_i = (target[..., 2:] - target[..., :2]).clamp(min=_SMALLEST)
    size_j = (source[..., 2:] - source[..., :2]).clamp(min=_SMALLEST)
    offset = (source[..., :2] + source[..., 2:] - target[..., :2] - target[..., 2:]) / 2
    ratio = (size_j / size_i).log()
    distance = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
    direction = offset / distance.clamp(min=_SMALLEST)
    iou = box_iou(target[..., None, :], source[..., None, :])[..., 0]  # (..., 1)
    return torch.cat((offset, ratio, direction, iou, distance), -1)


def _size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    boxes = at_least_float32(boxes)
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width, height
