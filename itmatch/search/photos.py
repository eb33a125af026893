"""From photos to the columns of shards: they are read, made regions and encoded a few at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from itmatch.batch import Regions
from itmatch.data import ImageTextSplit
from itmatch.errors import PhotoError
from itmatch.extractor import Extractor
from itmatch.formats.files import user_path
from itmatch.formats.messages import reason, shown
from itmatch.formats.photos import PHOTO_ENDINGS
from itmatch.models import MatchingModel
from itmatch.models.photos import AT_A_TIME, extractor_of, names_of, regions_of
from itmatch.search.adding import image_columns, with_names, with_split
from itmatch.search.store.manifest import Manifest
from itmatch.search.store.writing import Commit, ShardWriter
from itmatch.vision.photos import Photo, find_photos

_TOLD = 3  # photos that cannot be read, of which each has a line


Photos: TypeAlias = str | Path | Sequence[str | Path]
"""A folder of photos, a text file with a path per line, a tar file, one photo, or a list of paths."""


def with_source(
    commit: Commit, manifest: Manifest, model: MatchingModel, source: ImageTextSplit | list[Photo], batch_size: int
) -> Manifest:
    """:func:`with_split <itmatch.search.adding.with_split>`, or :func:`with_photos`."""
    if isinstance(source, ImageTextSplit):
        return with_split(commit, manifest, model, source, batch_size)
    return with_photos(commit, manifest, model, source, batch_size)


def photos_of(source: Photos) -> list[Photo]:
    """The photos of a folder, of a list or tar file, or at some paths; a photo alone is one.

    Raises:
        FileNotFoundError: no such folder or file.
        TypeError: something else than paths.
        ValueError: there are no photos, or two of one name.
    """
    if isinstance(source, (str, Path)):
        path = user_path(source)
        alone = path.suffix.lower() in PHOTO_ENDINGS and path.is_file()
        return [Photo(path.name, str(path))] if alone else find_photos(path)
    for place, name in enumerate(source):
        if not isinstance(name, (str, Path)):
            raise TypeError(f"photos[{place}]: a {type(name).__name__}, expected a path")
    names = [str(path) for path in source]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"photos: {shown(twice)} is there twice")
    if not names:
        raise ValueError("photos: none, expected one or more")
    return [Photo(name, str(user_path(name))) for name in names]


def with_photos(
    commit: Commit, manifest: Manifest, model: MatchingModel, photos: Sequence[Photo], batch_size: int
) -> Manifest:
    """Write photos as new shards of images; those that cannot be read are left out and told of.

    Args:
        commit: that they are for.
        manifest: of the index without them.
        model: makes regions of them, and encodes these.
        photos: of :func:`photos_of`.
        batch_size: photos that are encoded at a time.

    Returns:
        The manifest with them.

    Raises:
        ValueError: the model takes no photos, or none of them can be read.
    """
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer: set model.tokenizer")
    extractor, errors = extractor_of(model.image_encoder, model.extractor), dict[str, str]()
    writer, names = ShardWriter(commit, "images", manifest.next_serial["images"]), manifest.names
    size = min(batch_size, AT_A_TIME)
    for start in range(0, len(photos), size):
        for good, regions in _regions(model, extractor, photos[start : start + size], errors):
            names = with_names(names, "photos", names_of(extractor))
            ids, pictures = (
                [photo.name for photo in good],
                [photo.path if photo.place == photo.path else "" for photo in good],
            )
            fragments = model.encode_images(regions, batch_size=len(ids))
            writer.add(image_columns(fragments, ids, regions, pictures, "photo"))
    if len(errors) == len(photos):
        raise ValueError(f"none of the {len(photos)} photos could be read; {next(iter(errors.values()))}")
    writer.flush()
    _tell(list(errors.values()), len(photos))
    serials = {**manifest.next_serial, "images": writer.next_serial}
    return replace(manifest, images=(*manifest.images, *writer.written), next_serial=serials, names=names)


def _regions(
    model: MatchingModel, extractor: Extractor, photos: Sequence[Photo], errors: dict[str, str]
) -> Iterator[tuple[list[Photo], Regions]]:
    """The photos that can be read with their regions, together or one by one; what is wrong with others is noted."""
    images: dict[Photo, Any] = {}
    for photo in photos:
        try:
            images[photo] = photo.read()
        except (OSError, ValueError) as error:
            errors[photo.name] = reason(error)
    try:
        together = regions_of(list(images.values()), model.image_encoder, extractor) if images else None
    except PhotoError:  # the others are taken without it
        together = None
    if together is not None:
        yield list(images), together
        return
    for photo, image in images.items():
        try:
            alone = regions_of([image], model.image_encoder, extractor)
        except PhotoError as error:
            errors[photo.name] = f"{photo.place}: {reason(error)}"
        else:
            yield [photo], alone


def _tell(errors: list[str], count: int) -> None:
    """Warn of photos that were left out: a line for each of a few, and how many there are."""
    for error in errors[:_TOLD]:
        warnings.warn(error, stacklevel=5)
    if errors:
        more = "" if len(errors) <= _TOLD else f", of which {_TOLD} are named above"
        warnings.warn(f"{len(errors)} of {count} photos could not be read and are left out{more}", stacklevel=5)
