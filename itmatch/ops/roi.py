"""Features of boxes from a map of features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from itmatch.ops.checks import check_whole
from itmatch.ops.masking import at_least_float32


def roi_align(maps: Tensor, boxes: Tensor, bins: int = 7) -> Tensor:
    """The map under each box, in ``bins`` x ``bins`` parts.

    Each part is the mean of 2 x 2 points, read between the places of the map. This is RoIAlign, aligned to half a
    place, with a sampling ratio of 2; it needs no other package.

    Args:
        maps: (I, C, H, W), each over a whole image.
        boxes: (I, R, 4), x1 y1 x2 y2 as fractions of width and height.
        bins: parts of a side, P.

    Returns:
        (I, R, C, P, P).

    Source: He et al., Mask R-CNN, ICCV 2017.

    Example:
        >>> roi_align(torch.arange(4.0).view(1, 1, 1, 4), torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]), bins=1)
        tensor([[[[[1.5000]]]]])
    """
    check_whole("bins", bins)
    points = _sampled(maps, boxes, bins)  # (I, C, R, 2P, 2P)
    images, channels, regions = points.shape[:3]
    parts = points.view(images, channels, regions, bins, 2, bins, 2).mean((4, 6))
    return parts.transpose(1, 2)


def roi_features(maps: Tensor, boxes: Tensor, bins: int = 7) -> Tensor:
    """The mean of :func:`roi_align` under each box: (I, R, C) from maps (I, C, H, W) and boxes (I, R, 4)."""
    check_whole("bins", bins)
    return _sampled(maps, boxes, bins).mean((3, 4)).transpose(1, 2)


def _sampled(maps: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """(I, C, R, 2P, 2P): the maps at points that divide each box evenly."""
    maps, boxes = at_least_float32(maps), at_least_float32(boxes)
    images, regions = boxes.shape[:2]
    count = 2 * bins
    shares = (torch.arange(count, device=boxes.device, dtype=boxes.dtype) + 0.5) / count  # (2P,)
    low, size = boxes[..., None, :2], (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    points = low + size * shares[:, None]  # (I, R, 2P, 2)
    x, y = points.unbind(-1)
    grid = torch.stack((x[:, :, None, :].expand(-1, -1, count, -1), y[..., None].expand(-1, -1, -1, count)), -1)
    grid = grid.reshape(images, regions * count, count, 2).to(maps.dtype) * 2 - 1
    found = grid_sample(maps, grid, padding_mode="border", align_corners=False)  # (I, C, R * 2P, 2P)
    return found.view(images, maps.shape[1], regions, count, count)
