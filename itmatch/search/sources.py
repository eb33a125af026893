"""What users give an index to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmatch.data import DataSource, ImageTextSplit
from itmatch.formats.messages import shown
from itmatch.search.collection import Collection
from itmatch.search.photos import photos_of
from itmatch.vision.photos import Photo


def as_source(source: Any) -> ImageTextSplit | list[Photo]:
    """Images and captions, or photos, as an index takes them.

    Raises:
        FileNotFoundError: there is no such folder of photos.
        TypeError: it is something else.
        ValueError: there are no photos, or two of one name.
    """
    if isinstance(source, ImageTextSplit):
        return source
    if isinstance(source, DataSource):
        raise TypeError(f'source: a {type(source).__qualname__}, expected one of its splits: source.split("test")')
    if not isinstance(source, (str, Path, list, tuple)):
        expected = 'an ImageTextSplit, as RelationScenes().split("test") gives, a folder of photos, or a list of paths'
        raise TypeError(f"source: a {type(source).__qualname__}, expected {expected}")
    return photos_of(source)


def check_new(source: ImageTextSplit | list[Photo], images: Collection) -> None:
    """Refuse images whose ids an index has already.

    Raises:
        ValueError: it has one.
    """
    given = source.image_ids if isinstance(source, ImageTextSplit) else [photo.name for photo in source]
    double = [name for name in given if images.has(name)]
    if double:
        which = ", ".join(map(shown, double[:3])) + ", ..." * (len(double) > 3)
        told = f"has {len(double)} of the {len(given)} ids of images already: {which}"
        raise ValueError(f"{images.where}: {told}; delete these first, or give the new images other ids")
