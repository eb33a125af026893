"""What users give an index to hold, and what it is called there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from itmatch.data import DataSource, ImageTextSplit
from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.messages import shown
from itmatch.formats.photos import PHOTO_ENDINGS
from itmatch.search.collection import Collection
from itmatch.vision.captions import Described, strangers_told, with_captions
from itmatch.vision.photos import Photo, find_photos

Photos: TypeAlias = str | Path | Sequence[str | Path]
"""A folder of photos, a text file with a path per line, a tar file, one photo, or a list of paths."""


@dataclass(frozen=True)
class SplitPart:
    """Some images of a split, with their captions.

    Args:
        split: images and captions, or a gallery.
        rows: of the images; None = all, and the captions of no image too.
    """

    split: ImageTextSplit
    rows: Array | None = None


Source: TypeAlias = SplitPart | Described


def images_in(source: Source) -> int:
    """How many images there are."""
    if isinstance(source, Described):
        return len(source.photos)
    return source.split.num_images if source.rows is None else len(source.rows)


def as_source(source: Any, captions: str | Path | None = None) -> Source:
    """Images and captions, or photos, as an index takes them.

    Args:
        source: what the user gives.
        captions: a file with those of photos; None = those that came with them, in a tar file for example.

    Raises:
        FileNotFoundError: there is no such folder of photos, or no such file.
        TypeError: it is something else.
        ValueError: there are no photos, or one comes twice; captions are given of a split, or of none of the photos.

    Warns:
        UserWarning: a file of captions names photos that there are not.
    """
    if isinstance(source, ImageTextSplit):
        if captions is not None:
            raise ValueError(
                f"captions={shown(str(captions))}: are for photos alone, and {source.name} is a split with its own"
            )
        return SplitPart(source)
    if isinstance(source, DataSource):
        raise TypeError(f'source: a {type(source).__qualname__}, expected one of its splits: source.split("test")')
    if not isinstance(source, (str, Path, list, tuple)):
        expected = 'an ImageTextSplit, as RelationScenes().split("test") gives, a folder of photos, or a list of paths'
        raise TypeError(f"source: a {type(source).__qualname__}, expected {expected}")
    photos = _photos_of(source)
    file = None if captions is None else user_path(captions)
    described = with_captions(photos, file)
    for line in strangers_told(file, described.strangers):
        warnings.warn(line, stacklevel=3)
    return replace(described, photos=photos)  # those without captions too


def _photos_of(source: Photos) -> list[Photo]:
    """The photos of a folder, of a list or tar file, or at some paths; a photo alone is one."""
    if isinstance(source, (str, Path)):
        path = user_path(source)
        alone = path.suffix.lower() in PHOTO_ENDINGS and path.is_file()
        photos = [Photo(path.name, str(path))] if alone else find_photos(path)
    else:
        for place, name in enumerate(source):
            if not isinstance(name, (str, Path)):
                raise TypeError(f"photos[{place}]: a {type(name).__name__}, expected a path")
        photos = [Photo(os.path.normpath(name), str(user_path(name))) for name in source]
    if not photos:
        raise ValueError("photos: none, expected one or more")
    seen: dict[str, Photo] = {}
    for photo in photos:
        file = file_of(photo)
        if file is not None and (first := seen.setdefault(file, photo)) is not photo:
            also = "" if first.path == photo.path else f", also as {shown(photo.path)}"
            raise ValueError(f"photos: {shown(first.path)} is there twice{also}")
    return photos


def file_of(photo: Photo) -> str | None:
    """The whole path of a photo's file; None where others share the file, as in a tar file."""
    return os.path.abspath(photo.path) if photo.place == photo.path else None


def new_in(source: Source, images: Collection, *, skip_existing: bool = False) -> Source:
    """What a source has that is new to the images of an index, under the ids that it gets there.

    A photo is there already if its file is, by whatever path it is given and whatever it is called; other images are
    if their ids are. A photo in or below a folder of which the index has photos gets its path in that folder as id.

    Args:
        source: of :func:`as_source`.
        images: of the index.
        skip_existing: leave out what is there; otherwise it is an error.

    Raises:
        ValueError: an image is there already, or its id is that of another photo.
    """
    known = _Known(images)
    if isinstance(source, Described):
        source = _renamed(source, {photo.name: known.name_of(photo) for photo in source.photos})
        given = [(photo.name, file_of(photo)) for photo in source.photos]
    else:
        split = source.split
        given = [(name, file_of_picture(split.picture(row))) for row, name in enumerate(split.image_ids)]
    new = np.array([known.is_new(name, file) for name, file in given], bool)
    if new.all():
        return source
    if not skip_existing:
        raise ValueError(f"{images.where}: {_double(given, new)}")
    if isinstance(source, Described):
        return replace(source, photos=[photo for photo, one in zip(source.photos, new, strict=True) if one])
    return replace(source, rows=np.flatnonzero(new))


class _Known:
    """The photos of an index, by their files.

    Attributes:
        files: the id of each photo by its file; only of images that are photos with a file each.
        folders: that ids are paths in.
    """

    def __init__(self, images: Collection) -> None:
        self.images, self.files, self.taken = images, dict[str, str](), dict[str, str]()
        for name, picture in zip(images.ids, images.pictures or (), strict=True):
            if (file := file_of_picture(picture)) is not None:
                self.files[file] = name
                self.taken[name] = file
        self.folders = {file.removesuffix(f"/{name}") for file, name in self.files.items() if file.endswith(f"/{name}")}

    def name_of(self, photo: Photo) -> str:
        """The id of a photo: the one that it has, its path in a folder of the index, or else what it is called."""
        file = file_of(photo)
        if file is None or file in self.files:
            return photo.name if file is None else self.files[file]
        folder = next((str(one) for one in Path(file).parents if str(one) in self.folders), None)
        return photo.name if folder is None else os.path.relpath(file, folder)

    def is_new(self, name: str, file: str | None) -> bool:
        """Whether an image is not there; one that is new is known from now on.

        Raises:
            ValueError: its id is that of another photo.
        """
        if file is not None and file in self.files:
            return False
        if file is not None and name in self.taken:
            told = f"{shown(name)} is the id of {shown(self.taken[name])} already, and would be that of {shown(file)}"
            raise ValueError(f"{self.images.where}: {told}; photos given as paths keep these as ids")
        if self.images.has(name):
            return False
        if file is not None:
            self.files[file], self.taken[name] = name, file
        return True


def _renamed(source: Described, names: Mapping[str, str]) -> Described:
    """Photos and their captions under other names."""
    photos = [replace(photo, name=names[photo.name]) for photo in source.photos]
    return replace(source, photos=photos, texts={names[name]: texts for name, texts in source.texts.items()})


def file_of_picture(picture: str | None) -> str | None:
    """The whole path of the picture of an image; None of a drawing, and where there is none."""
    return None if not picture or picture.startswith("<svg") else os.path.abspath(picture)


def _double(given: Sequence[tuple[str, str | None]], new: Array) -> str:
    """What is said of images that an index has already."""
    names = [name for (name, _), one in zip(given, new, strict=True) if not one]
    which = ", ".join(map(shown, names[:3])) + ", ..." * (len(names) > 3)
    told = f"has {len(names)} of the {len(given)} images already: {which}"
    return f"{told}; skip_existing=True leaves them as they are, and delete makes room for new ones"
