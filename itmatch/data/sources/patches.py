"""Photos as the patches of pixels that CLIP and SigLIP read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from itmatch.batch import Regions
from itmatch.data.sources.processors import patches_of_model
from itmatch.extractor import MOST_PIXELS, MOST_REGIONS, Extractor, check_at_most
from itmatch.formats.arrays import Array
from itmatch.formats.photos import image_module, read_photo
from itmatch.ops.checks import check_choice, check_whole
from itmatch.ops.masking import lengths_to_mask

_MEAN, _STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # CLIP's
_LONGEST = 64  # times the shorter side
Fit = Literal["crop", "stretch", "keep"]


class PhotoPatches(Extractor):
    """The patches of photos as their regions: (P, 3 p p) pixel values of P patches, row after row of the grid.

    With the name of a model all is as the model's own processor does it. :attr:`spec` holds the settings themselves, so
    that a saved model needs no files of another one.

    Args:
        model_name: of a CLIP, a SigLIP or a vision transformer: a name on the Hugging Face hub, or a local folder.
            Nothing else is then given.
        image_size: pixels of a side, a multiple of ``patch_size``; None = 224.
        patch_size: pixels of a side of a patch, p; None = 32.
        fit: ``"crop"``: the shorter side is made ``image_size`` long and the middle is cut out, as CLIP has it;
            ``"stretch"``: both sides are, as SigLIP has it; ``"keep"``: the photo keeps its shape, up to the next whole
            patch, and is made as large as ``max_patches`` allow, as SigLIP 2 of variable resolution (NaFlex) has it. A
            patch then has two numbers more, its row and column. None = ``"crop"``.
        mean: of red, green and blue, in [0, 1]; taken off. None = CLIP's.
        std: what is then divided by; None = CLIP's.
        max_patches: of a photo that keeps its shape; None = 256.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: settings beside a name, sizes that do not fit together, or colours that are no three numbers.
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        *,
        image_size: int | None = None,
        patch_size: int | None = None,
        fit: Fit | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        max_patches: int | None = None,
    ) -> None:
        own: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size, "fit": fit, "mean": mean, "std": std}
        given = {name: value for name, value in (own | {"max_patches": max_patches}).items() if value is not None}
        if model_name is None:
            self._take(**given)
            return
        if given:
            raise ValueError(f"{next(iter(given))}: the files of {str(model_name)!r} say it; leave it out")
        try:
            self._take(**patches_of_model(model_name))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{model_name}: {error}") from error

    def _take(
        self,
        image_size: int = 224,
        patch_size: int = 32,
        fit: Fit = "crop",
        mean: Sequence[float] = _MEAN,
        std: Sequence[float] = _STD,
        max_patches: int = 256,
    ) -> None:
        self.fit: Fit = check_choice("fit", fit, "crop", "stretch", "keep")
        check_at_most("image_size", check_whole("image_size", image_size), MOST_PIXELS)
        check_at_most("patch_size", check_whole("patch_size", patch_size), MOST_PIXELS)
        check_at_most("max_patches", check_whole("max_patches", max_patches), MOST_REGIONS)
        if fit == "keep" and max_patches * patch_size**2 > MOST_PIXELS**2:
            raise ValueError(
                f"max_patches: {max_patches} patches of {patch_size} x {patch_size} pixels, expected at most "
                f"{MOST_PIXELS} x {MOST_PIXELS} pixels together"
            )
        if fit != "keep" and (patch_size > image_size or image_size % patch_size):
            raise ValueError(f"image_size: {image_size}, expected a multiple of patch_size {patch_size}")
        self.image_size, self.patch_size, self.max_patches = image_size, patch_size, max_patches
        self.mean, self.std = _of_colours("mean", mean, -np.inf), _of_colours("std", std, 0)
        self.feature_dim = 3 * patch_size**2 + (2 if fit == "keep" else 0)
        self.num_regions = None if fit == "keep" else (image_size // patch_size) ** 2

    def spec_arguments(self) -> dict[str, Any]:
        """The settings that count, without the name of the model that they came from."""
        sizes = ["max_patches"] if self.fit == "keep" else ["image_size"]
        return {name: getattr(self, name) for name in (*sizes, "patch_size", "fit", "mean", "std")}

    def __call__(self, photos: Sequence[Any]) -> Regions:
        """The patches of images of Pillow, or of the photos at some paths, with their boxes in the whole photos."""
        images = [read_photo(photo, f"photos[{place}]") for place, photo in enumerate(photos)]
        patches = [torch.from_numpy(self._patches(image)) for image in images]
        boxes = [torch.from_numpy(self.boxes(*image.size)) for image in images]
        mask = lengths_to_mask(torch.tensor([len(rows) for rows in patches]))
        return Regions(pad_sequence(patches, batch_first=True), mask, boxes=pad_sequence(boxes, batch_first=True))

    def patches(self, photo: Any) -> Array:
        """(P, 3 p p) float32 of an image of Pillow or the photo at a path; (P, 3 p p + 2) where it keeps its shape."""
        return self._patches(read_photo(photo, "photo"))

    def _patches(self, image: Any) -> Array:
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        pixels = (np.asarray(self._fitted(image), np.float32) / 255 - mean) / std  # (H, W, 3)
        size = self.patch_size
        height, width = (side // size for side in pixels.shape[:2])
        grid = pixels.reshape(height, size, width, size, 3).transpose(0, 2, 4, 1, 3).reshape(height * width, -1)
        if self.fit == "keep":
            grid = np.concatenate([grid, np.stack(np.divmod(np.arange(len(grid)), width), 1)], 1)
        return np.ascontiguousarray(grid, dtype=np.float32)

    def boxes(self, width: int, height: int) -> Array:
        """(P, 4) x1 y1 x2 y2 of the patches, as fractions of the width and height of the photo."""
        part = np.ones(2)
        if self.fit == "crop":  # the middle of it, as long as the shorter side
            part = min(width, height) / np.array([width, height])
        across, down = self._grid(width, height)
        rows, columns = np.divmod(np.arange(across * down), across)
        corner = np.stack([columns / across, rows / down], 1)  # (P, 2)
        low = (1 - part) / 2 + corner * part
        return np.concatenate([low, low + part / [across, down]], 1).astype(np.float32)

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Patches along x and y of a photo."""
        if self.fit == "keep":
            return _largest_grid(width, height, self.patch_size, self.max_patches)
        return (self.image_size // self.patch_size,) * 2

    def _fitted(self, image: Any) -> Any:
        """An image whose sides are multiples of ``patch_size``."""
        module, size = image_module(), self.image_size
        if self.fit == "keep":
            across, down = self._grid(*image.size)
            return image.resize((across * self.patch_size, down * self.patch_size), module.Resampling.BILINEAR)
        if self.fit == "stretch":
            return image.resize((size, size), module.Resampling.BICUBIC)
        image = _without_ends(image)
        scale = size / min(image.size)
        width, height = (max(size, int(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), module.Resampling.BICUBIC)
        return image.crop((left, top, left + size, top + size))


def _largest_grid(width: int, height: int, patch: int, most: int) -> tuple[int, int]:
    """Patches along x and y when a photo is as large as ``most`` patches allow: the search of the model's processor."""

    def at(scale: float) -> tuple[int, int]:
        return max(1, math.ceil(width * scale / patch)), max(1, math.ceil(height * scale / patch))

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(at(middle)) <= most else (low, middle)
    return at(low)


def _of_colours(name: str, values: Sequence[float], above: float) -> list[float]:
    found = np.asarray(values, np.float32)
    if found.shape != (3,) or not np.isfinite(found).all() or not (found > above).all():
        wanted = "positive numbers" if above == 0 else "finite numbers"
        raise ValueError(f"{name}: {list(values)}, expected three {wanted}, of red, green and blue")
    return [float(value) for value in values]


def _without_ends(image: Any) -> Any:
    """The middle of a very long image: all of it, made larger, would take gigabytes, of which the middle is cut out."""
    sides = image.size
    ends = [max(0, side - _LONGEST * min(sides)) // 2 for side in sides]
    return image.crop((*ends, *(side - end for side, end in zip(sides, ends, strict=True)))) if any(ends) else image
