"""What users give a model, as batches of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Subset

from itmatch.batch import Batch, Regions
from itmatch.data import CaptionDataset, Collator, ImageDataset, ImageTextSplit, Tokenizer
from itmatch.extractor import Extractor
from itmatch.formats.files import user_path
from itmatch.formats.messages import shown
from itmatch.formats.photos import PHOTO_ENDINGS
from itmatch.models.photos import AT_A_TIME, Photo, as_photos, is_photo, photo_batches
from itmatch.ops import lengths_to_mask
from itmatch.ops.arrays import as_tensor

Array: TypeAlias = Tensor | npt.NDArray[Any]
Images: TypeAlias = Regions | Array | Sequence[Array] | Photo | Sequence[Photo]
"""Regions, features (I, R, F), or a list with features (R_i, F) of each image; or photos, one or several."""


def region_batches(
    images: Images, encoder: nn.Module, extractor: Extractor | None, batch_size: int
) -> Iterator[Regions]:
    """The regions of images in batches, one at least; of photos a few at a time.

    Args:
        images: what a user gives a model.
        encoder: that will read them.
        extractor: of the model.
        batch_size: images of a batch.
    """
    photos = as_photos(images)
    if photos is not None:
        yield from photo_batches(photos, encoder, extractor, min(batch_size, AT_A_TIME))
        return
    regions = as_regions(images, encoder)
    for start in range(0, max(1, len(regions)), batch_size):  # once for no rows too, which gives the right sizes
        yield regions[start : start + batch_size]


def as_regions(images: Any, encoder: nn.Module) -> Regions:
    """Regions of images, padded where the images have different numbers of them.

    Args:
        images: Regions; features (I, R, F) of I images in which every region is real; or one (R_i, F) per image.
        encoder: says the size of features of a list without any, by its ``in_features``.

    Raises:
        TypeError: something else, or features that are no numbers.
        ValueError: shapes that do not fit together, or an image without a region.
    """
    if isinstance(images, Regions):
        return images
    if isinstance(images, (Tensor, np.ndarray)) and images.dtype != object:
        features = as_tensor("images", _no_pixels("images", images))
        if features.ndim != 3:
            raise ValueError(f"images: shape {tuple(features.shape)}, expected (images, regions, features)")
        return Regions(features)
    if isinstance(images, (str, bytes)) or not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
        raise TypeError(f"images: a {type(images).__name__}, expected Regions, features, photos, or a list of them")
    rows = [as_tensor(f"images[{i}]", _no_pixels(f"images[{i}]", images[i])) for i in range(len(images))]
    if not rows:
        return Regions(torch.zeros(0, 1, getattr(encoder, "in_features", 0)))
    for i, row in enumerate(rows):
        if row.ndim != 2 or row.shape[1] != rows[0].shape[-1] or not len(row):
            expected = (
                f"(regions, {rows[0].shape[1]}), as images[0]" if i and rows[0].ndim == 2 else "(regions, features)"
            )
            raise ValueError(f"images[{i}]: shape {tuple(row.shape)}, expected {expected}, with one region at least")
    dtype = reduce(torch.promote_types, [row.dtype for row in rows])
    features = pad_sequence([row.to(rows[0].device, dtype) for row in rows], batch_first=True)
    mask = lengths_to_mask(torch.tensor([len(row) for row in rows]))
    return Regions(features, mask.to(features.device))


def _no_pixels(where: str, image: Any) -> Any:
    """What was given, unless it is the pixels of a photo in the place of features.

    Raises:
        ValueError: whole numbers of 8 bits.
    """
    if str(getattr(image, "dtype", "")).removeprefix("torch.") == "uint8":
        told = "expected features; of pixels Image.fromarray of Pillow makes a photo"
        raise ValueError(f"{where}: uint8 of shape {tuple(image.shape)}, {told}")
    return image


def check_no_photos(texts: Any) -> None:
    """Raise where a photo is given in the place of a text: the path of a file that is there, or an image.

    Raises:
        TypeError: names it.
    """
    given = [texts] if isinstance(texts, (str, Path)) or not isinstance(texts, (list, tuple)) else texts
    for place, text in enumerate(given):
        is_path = isinstance(text, str) and text.lower().endswith(PHOTO_ENDINGS) and user_path(text).is_file()
        if is_path or (is_photo(text) and not isinstance(text, str)):
            found = shown(str(text)) if isinstance(text, (str, Path)) else f"a {type(text).__name__}"
            raise TypeError(f"texts[{place}]: {found} is a photo, expected a text; images come first, and texts second")


def batches_of(
    split: ImageTextSplit, tokenizer: Tokenizer, batch_size: int, rows: npt.NDArray[Any] | None = None
) -> Iterator[Batch]:
    """All images of a split in batches, then all its captions; or those of some images.

    Args:
        split: images and captions.
        tokenizer: of the captions.
        batch_size: images, and captions, of a batch.
        rows: of the images that are taken; None = all, with the captions of no image.
    """
    collate = Collator(tokenizer)
    parts: tuple[Dataset[Any], ...] = (ImageDataset(split), CaptionDataset(split))
    if rows is not None:
        captions = np.flatnonzero(np.isin(split.caption_image, rows))
        parts = Subset(parts[0], rows.tolist()), Subset(parts[1], captions.tolist())
    for part in parts:
        yield from DataLoader(part, batch_size, collate_fn=collate)
