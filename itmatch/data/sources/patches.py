"""Photos as the patches of pixels that CLIP and SigLIP read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from itmatch.batch import Regions
from itmatch.extractor import MOST_PIXELS, Extractor, check_at_most
from itmatch.formats.arrays import Array
from itmatch.formats.photos import image_module, open_photo
from itmatch.ops.checks import check_choice, check_whole

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
_LONGEST = 64  # times the shorter side


class PhotoPatches(Extractor):
    """The patches of photos as their regions: (P, 3 p p) pixel values of P patches, row after row of the grid.

    Args:
        image_size: pixels of a side, a multiple of ``patch_size``.
        patch_size: pixels of a side of a patch, p.
        fit: ``"crop"``: the shorter side is made ``image_size`` long and the middle is cut out, as CLIP has it;
            ``"stretch"``: both sides are, as SigLIP has it.
        mean: of red, green and blue, in [0, 1]; taken off. None = CLIP's.
        std: what is then divided by; None = CLIP's.

    Raises:
        ValueError: sizes that do not fit together, or colours that are no three numbers.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 32,
        *,
        fit: Literal["crop", "stretch"] = "crop",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        check_at_most("image_size", check_whole("image_size", image_size), MOST_PIXELS)
        if check_whole("patch_size", patch_size) > image_size or image_size % patch_size:
            raise ValueError(f"image_size: {image_size}, expected a multiple of patch_size {patch_size}")
        self.image_size, self.patch_size = image_size, patch_size
        self.fit = check_choice("fit", fit, "crop", "stretch")
        self._mean = _of_colours("mean", _MEAN if mean is None else mean, -np.inf)
        self._std = _of_colours("std", _STD if std is None else std, 0)
        self.feature_dim, self.num_regions = 3 * patch_size**2, (image_size // patch_size) ** 2

    def __call__(self, photos: Sequence[Any]) -> Regions:
        """The patches of RGB images of Pillow, or of the photos at some paths, with their boxes in the whole photos."""
        images = [open_photo(photo) if isinstance(photo, (str, Path)) else photo for photo in photos]
        patches = torch.from_numpy(np.stack([self.patches(image) for image in images]))
        return Regions(patches, boxes=torch.from_numpy(np.stack([self.boxes(*image.size) for image in images])))

    def patches(self, image: Any) -> Array:
        """(P, 3 p p) float32 of an RGB image of Pillow."""
        pixels = (np.asarray(self._fitted(image), np.float32) / 255 - self._mean) / self._std  # (H, H, 3)
        side, size = self.image_size // self.patch_size, self.patch_size
        grid = pixels.reshape(side, size, side, size, 3)
        patches: Array = grid.transpose(0, 2, 4, 1, 3).reshape(side * side, -1)
        return np.ascontiguousarray(patches, dtype=np.float32)

    def boxes(self, width: int, height: int) -> Array:
        """(P, 4) x1 y1 x2 y2 of the patches, as fractions of the width and height of the photo."""
        part = np.ones(2)
        if self.fit == "crop":  # the middle of it, as long as the shorter side
            part = min(width, height) / np.array([width, height])
        side = self.image_size // self.patch_size
        rows, columns = np.divmod(np.arange(side * side), side)
        corner = np.stack([columns, rows], 1) / side  # (P, 2)
        low = (1 - part) / 2 + corner * part
        return np.concatenate([low, low + part / side], 1).astype(np.float32)

    def _fitted(self, image: Any) -> Any:
        """An image of ``image_size`` pixels a side."""
        module, size = image_module(), self.image_size
        if self.fit == "stretch":
            return image.resize((size, size), module.Resampling.BICUBIC)
        image = _without_ends(image)
        scale = size / min(image.size)
        width, height = (max(size, int(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), module.Resampling.BICUBIC)
        return image.crop((left, top, left + size, top + size))


def _of_colours(name: str, values: Sequence[float], above: float) -> Array:
    found = np.asarray(values, np.float32)
    if found.shape != (3,) or not np.isfinite(found).all() or not (found > above).all():
        wanted = "positive numbers" if above == 0 else "finite numbers"
        raise ValueError(f"{name}: {list(values)}, expected three {wanted}, of red, green and blue")
    return found


def _without_ends(image: Any) -> Any:
    """The middle of a very long image: all of it, made larger, would take gigabytes, of which the middle is cut out."""
    sides = image.size
    ends = [max(0, side - _LONGEST * min(sides)) // 2 for side in sides]
    return image.crop((*ends, *(side - end for side, end in zip(sides, ends, strict=True)))) if any(ends) else image
