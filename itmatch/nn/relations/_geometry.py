"""Where one box lies as seen from another, and what is learned from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.ops.geometry import box_iou

GEOMETRY_SIZE = 8
_SMALLEST = 1e-3  # of a width, height or distance in a quotient; a thousandth of the image is less than a pixel or two
_HIDDEN = 64


def edge_geometry(target: Tensor, source: Tensor) -> Tensor:
    """Geometry of the source box as seen from the target box.

    Args:
        target: (..., 4) x1 y1 x2 y2 as fractions of width and height.
        source: (..., 4); the two broadcast.

    Returns:
        (..., 8): offset of the centres (x, y), log ratios of width and height, cosine and sine of the direction
        (downwards is positive; 0 where the centres coincide), IoU, distance of the centres.
    """
    size_i = (target[..., 2:] - target[..., :2]).clamp(min=_SMALLEST)
    size_j = (source[..., 2:] - source[..., :2]).clamp(min=_SMALLEST)
    offset = (source[..., :2] + source[..., 2:] - target[..., :2] - target[..., 2:]) / 2
    ratio = (size_j / size_i).log()
    distance = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
    direction = offset / distance.clamp(min=_SMALLEST)
    iou = box_iou(target[..., None, :], source[..., None, :])[..., 0]  # (..., 1)
    return torch.cat((offset, ratio, direction, iou, distance), -1)


def pairwise_geometry(boxes: Tensor, mask: Tensor) -> Tensor:
    """(N, L, L, 8) geometry of all pairs of boxes (N, L, 4), entry ``[n, i, j]`` that of j as seen from i."""
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).masked_fill(~mask[..., None], 0)
    return edge_geometry(boxes[:, :, None], boxes[:, None, :])


class GeometryPerceptron(nn.Module):
    """A number a head from the geometry of an edge, (..., 8) -> (..., heads), by one hidden layer."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(GEOMETRY_SIZE, _HIDDEN)
        self.output = nn.Linear(_HIDDEN, num_heads)

    def forward(self, geometry: Tensor) -> Tensor:
        """Computed in the type of the weights."""
        result: Tensor = self.output(self.hidden(geometry.to(self.hidden.weight.dtype)).relu())
        return result
