"""Photos as the regions of a model: by its extractor, or as the patches that CLIP and SigLIP read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from torch import nn

from itmatch.batch import Regions
from itmatch.data import Names, PhotoPatches
from itmatch.data.sources.processors import usual_patches
from itmatch.extractor import Extractor
from itmatch.formats.photos import read_photo
from itmatch.nn import ClipImageEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

Photo: TypeAlias = Union[str, Path, "Image"]
"""The path of a photo, or an image of Pillow."""

AT_A_TIME = 16  # photos in memory: one of 12 million pixels takes 36 MB


def as_photos(images: Any) -> list[Photo] | None:
    """The photos, where images are given as such: a path or an image of Pillow, or a list of them; else None.

    Raises:
        TypeError: a list of photos and of something else.
    """
    if is_photo(images):
        return [images]
    if not isinstance(images, (list, tuple)) or not any(map(is_photo, images)):
        return None
    for place, image in enumerate(images):
        if not is_photo(image):
            raise TypeError(f"images[{place}]: a {type(image).__name__} among photos, expected a path or an image")
    return list(images)


def is_photo(image: Any) -> bool:
    """Whether something is the path of a photo, or an image of Pillow."""
    pillow = sys.modules.get("PIL.Image")  # who has an image of Pillow has imported it
    return isinstance(image, (str, Path)) or (pillow is not None and isinstance(image, pillow.Image))


def takes_photos(encoder: nn.Module, extractor: Extractor | None) -> bool:
    """Whether a model with these parts takes photos; otherwise it takes features of regions."""
    return extractor is not None or isinstance(encoder, ClipImageEncoder)


def extractor_of(encoder: nn.Module, extractor: Extractor | None) -> Extractor:
    """What makes regions of photos for a model with these parts.

    Raises:
        ValueError: the encoder reads features of regions, and there is no extractor.
    """
    if extractor is not None:
        return extractor
    if not isinstance(encoder, ClipImageEncoder):
        size = getattr(encoder, "in_features", None)
        numbers = "" if size is None else f" of {size} numbers"
        raise ValueError(
            f"this model reads region features{numbers}, not photos: set model.extractor = RegionExtractor(...)"
        )
    return PhotoPatches(**usual_patches(encoder.config))


def names_of(extractor: Extractor) -> Names:
    """What the classes and predicates of the regions that an extractor makes are called."""
    return Names(extractor.label_names, extractor.predicate_names)


def photo_batches(
    photos: Sequence[Photo], encoder: nn.Module, extractor: Extractor | None, batch_size: int = AT_A_TIME
) -> Iterator[Regions]:
    """The regions of photos, batch by batch, so that few photos are in memory.

    Args:
        photos: paths, or images of Pillow.
        encoder: that will read the regions.
        extractor: of the model.
        batch_size: photos of a batch.

    Raises:
        FileNotFoundError: a photo, or the model of the extractor, is not there.
        ValueError: a photo that cannot be read, or an extractor that does not fit the encoder.
    """
    made = extractor_of(encoder, extractor)
    for start in range(0, len(photos), batch_size):
        batch = photos[start : start + batch_size]
        yield regions_of([read_photo(photo, f"images[{start + i}]") for i, photo in enumerate(batch)], encoder, made)


def regions_of(photos: Sequence[Image], encoder: nn.Module, extractor: Extractor) -> Regions:
    """The regions of photos that were read.

    Raises:
        ValueError: the extractor makes other features than the encoder reads.
    """
    regions = extractor(photos)
    if not isinstance(regions, Regions) or len(regions) != len(photos):
        found = f"{len(regions)} rows" if isinstance(regions, Regions) else f"a {type(regions).__name__}"
        raise ValueError(
            f"extractor: {type(extractor).__name__} makes {found} of {len(photos)} photos, expected Regions"
        )
    size, wanted = regions.features.shape[-1], getattr(encoder, "in_features", None)
    if wanted not in (None, size):
        raise ValueError(
            f"extractor: {type(extractor).__name__} makes region features of {size} numbers, and "
            f"{type(encoder).__name__} reads {wanted}"
        )
    return regions
