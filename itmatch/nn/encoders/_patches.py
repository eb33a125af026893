"""Patches of images: to and from pixels, and the grids that they form."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor


def patches_of(pixels: Tensor, size: int) -> Tensor:
    """(I, 3, H, W) pixels to (I, P, 3 size size) patches, row after row of the grid.

    Raises:
        ValueError: height or width is no multiple of ``size``.
    """
    images, channels, height, width = pixels.shape
    if height % size or width % size:
        raise ValueError(f"pixels: {height} x {width}, expected multiples of {size}")
    grid = pixels.view(images, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(images, -1, channels * size * size)


def pixels_of(patches: Tensor, size: int) -> Tensor:
    """(I, P, 3 size size) patches of square images to (I, 3, H, H) pixels; undoes :func:`patches_of`."""
    side = isqrt(patches.shape[1])
    grid = patches.view(len(patches), side, side, -1, size, size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, side * size, side * size)


def grid_shapes(places: Tensor, mask: Tensor) -> Tensor:
    """Heights and widths of grids (I, 2) int64.

    Args:
        places: (I, P, 2) row and column of each patch, row after row of the grid.
        mask: (I, P) bool, which patches are real: the first of an image.

    Raises:
        ValueError: the patches of an image are no whole grid.
    """
    found = places.masked_fill(~mask[..., None], -1.0).round().long()
    shapes = found.amax(1) + 1  # (I, 2)
    number = torch.arange(found.shape[1], device=found.device).expand_as(mask)
    width = shapes[:, 1:].clamp(min=1)
    wanted = torch.stack((number // width, number % width), 2).masked_fill(~mask[..., None], -1)
    whole = (found == wanted).all((1, 2)) & (mask.sum(1) == shapes.prod(1)) & mask.any(1)
    if not bool(whole.all()):
        row = int((~whole).nonzero()[0])
        raise ValueError(
            f"patches of image {row}: {int(mask[row].sum())}, and no whole grid of {int(shapes[row, 0])} x "
            f"{int(shapes[row, 1])}, expected all of them, row after row (no size augmentation of regions)"
        )
    return shapes
