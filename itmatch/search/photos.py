"""From photos to the columns of shards: they are read, made regions and encoded a few at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from itmatch.models import MatchingModel
from itmatch.models.photos import AT_A_TIME, extractor_of, names_of, regions_of
from itmatch.search.adding import caption_columns, image_columns, with_names, with_split
from itmatch.search.sources import Source, SplitPart, file_of
from itmatch.search.store.manifest import Manifest
from itmatch.search.store.writing import Commit, ShardWriter
from itmatch.vision.captions import Described
from itmatch.vision.photos import made_of

_TOLD = 3  # photos that cannot be read, of which each has a line


def with_source(
    commit: Commit,
    manifest: Manifest,
    model: MatchingModel,
    source: Source,
    batch_size: int,
    *,
    keep_regions: bool = False,
) -> Manifest:
    """:func:`with_split <itmatch.search.adding.with_split>`, or :func:`with_photos`."""
    if isinstance(source, SplitPart):
        return with_split(commit, manifest, model, source, batch_size, keep_regions=keep_regions)
    return with_photos(commit, manifest, model, source, batch_size, keep_regions=keep_regions)


def with_photos(
    commit: Commit,
    manifest: Manifest,
    model: MatchingModel,
    source: Described,
    batch_size: int,
    *,
    keep_regions: bool = False,
) -> Manifest:
    """Write photos as new shards of images, and their captions; what cannot be read is left out and told of.

    Args:
        commit: that they are for.
        manifest: of the index without them.
        model: makes regions of them, and encodes these.
        source: photos, and the captions of some of them.
        batch_size: photos, and captions, that are encoded at a time.
        keep_regions: write what the model read of the photos, too.

    Returns:
        The manifest with them.

    Raises:
        OSError: a photo could not be read for a reason that lies in the disk.
        ValueError: the model takes no photos, none of them can be read, or a caption is none.
    """
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer: set model.tokenizer")
    extractor, errors, photos = extractor_of(model.image_encoder, model.extractor), dict[str, str](), source.photos
    texts = {photo.name: source.texts.get(photo.name, []) for photo in photos}
    for start in range(0, len(photos), batch_size):  # what is wrong with one is told before the work
        model.tokenizer.batch([text for photo in photos[start : start + batch_size] for text in texts[photo.name]])
    writer, names = ShardWriter(commit, "images", manifest.next_serial["images"]), manifest.names
    size, read = min(batch_size, AT_A_TIME), list[str]()
    make = partial(regions_of, encoder=model.image_encoder, extractor=extractor)
    for start in range(0, len(photos), size):
        few = photos[start : start + size]
        for places, regions in made_of(few, make, errors):
            good = [few[place] for place in places]
            names = with_names(names, "photos", names_of(extractor))
            ids, pictures = [photo.name for photo in good], [file_of(photo) or "" for photo in good]
            fragments = model.encode_images(regions, batch_size=len(ids))
            writer.add(image_columns(fragments, ids, regions, pictures, "photo", keep_regions=keep_regions))
            read += ids
    if len(errors) == len(photos):
        raise ValueError(f"none of the {len(photos)} photos could be read; {next(iter(errors.values()))}")
    writer.flush()
    _tell(list(errors.values()), len(photos))
    first = manifest.next_serial["images"]
    pairs = [(text, first + place) for place, name in enumerate(read) for text in texts[name]]
    manifest = replace(
        manifest,
        images=(*manifest.images, *writer.written),
        next_serial={**manifest.next_serial, "images": writer.next_serial},
        names=names,
    )
    return _with_texts(commit, manifest, model, pairs, batch_size)


def _with_texts(
    commit: Commit, manifest: Manifest, model: MatchingModel, pairs: Sequence[tuple[str, int]], batch_size: int
) -> Manifest:
    """Write captions, each with the serial of its image, as new shards."""
    writer = ShardWriter(commit, "captions", manifest.next_serial["captions"])
    for first in range(0, len(pairs), batch_size):
        few = pairs[first : first + batch_size]
        texts = [text for text, _ in few]
        fragments = model.encode_texts(texts, batch_size=batch_size)
        writer.add(caption_columns(fragments, writer.next_serial, texts, np.array([image for _, image in few])))
    writer.flush()
    serials = {**manifest.next_serial, "captions": writer.next_serial}
    return replace(manifest, captions=(*manifest.captions, *writer.written), next_serial=serials)


def _tell(errors: list[str], count: int) -> None:
    """Warn of photos that were left out: a line for each of a few, and how many there are."""
    for error in errors[:_TOLD]:
        warnings.warn(error, stacklevel=5)
    if errors:
        more = "" if len(errors) <= _TOLD else f", of which {_TOLD} are named above"
        warnings.warn(f"{len(errors)} of {count} photos could not be read and are left out{more}", stacklevel=5)
