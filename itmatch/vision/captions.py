"""The captions that go with photos, and the splits that come with them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itmatch.formats.files import user_path
from itmatch.formats.messages import counted, shown
from itmatch.formats.records import texts_of_record
from itmatch.vision.caption_files import CAPTION_ENDINGS, caption_records
from itmatch.vision.photos import Photo


@dataclass(frozen=True)
class Described:
    """Photos that have captions.

    Args:
        photos: in the order of all photos; all of them where there are no captions at all.
        texts: the captions of each, by its name; empty where there are no captions at all.
        strangers: names in the file of captions that no photo has.
    """

    photos: Sequence[Photo]
    texts: Mapping[str, list[str]]
    strangers: Sequence[str] = ()


def with_captions(photos: Sequence[Photo], captions: Path | None) -> Described:
    """The photos that have captions, with these; all photos and no captions where there are none.

    A name stands for the photo of this path in the folder, or of this path on the disk. Else it stands for the one
    photo whose file is called so, with or without its ending.

    Args:
        photos: of :func:`itmatch.vision.photos.find_photos`.
        captions: a file of :func:`itmatch.vision.caption_files.caption_records`: json, jsonl, a table, or lines of a
            file, a tab and a caption; None = those that came with the photos.

    Raises:
        ValueError: a file that is none of these, or that names none of the photos, or has a name that fits several.
    """
    if captions is None:
        came = {photo.name: list(photo.captions) for photo in photos if photo.captions}
        return Described([photo for photo in photos if not came or photo.name in came], came)
    names, found, strangers = _Names(photos, captions), dict[str, list[str]](), dict[str, None]()
    for given, record in caption_records(captions):
        name = names.photo(given)
        if name is None:
            strangers[given] = None
        else:
            texts = texts_of_record(record) or ()
            found.setdefault(name, []).extend(one for text in texts if (one := " ".join(text.split())))
    kept = [photo for photo in photos if found.get(photo.name)]
    if not kept:
        raise ValueError(f"{captions}: {_why_none(photos, list(found), list(strangers))}")
    return Described(kept, {photo.name: found[photo.name] for photo in kept}, list(strangers))


def left_out(photos: Sequence[Photo], described: Collection[str]) -> Iterator[str]:
    """A line about the photos that have no captions, if there are some."""
    without = [photo.name for photo in photos if photo.name not in described]
    if without:
        yield (
            f"{len(without)} of {len(photos)} photos have no captions and are left out; the first is "
            f"{shown(without[0])}"
        )


def strangers_told(captions: Path | None, strangers: Sequence[str]) -> Iterator[str]:
    """A line about names in a file of captions that no photo has, if there are some."""
    if strangers:
        yield (
            f"{captions}: {counted(len(strangers), 'names')} that no photo has, whose captions are left out; "
            f"the first is {shown(strangers[0])}"
        )


def splits_of(photos: Sequence[Photo], captions: Path, described: Collection[str]) -> dict[str, str]:
    """The split of each photo as the records of a file name it (``split``, as in Karpathy's files); or nothing.

    Args:
        photos: all of them.
        captions: the file.
        described: names of the photos whose splits are asked for.

    Raises:
        ValueError: a record names a split, and that of a photo does not; or those of a photo name two.
    """
    names, found = _Names(photos, captions), dict[str, Any]()
    for given, record in caption_records(captions):
        name = names.photo(given)
        if name is None or name not in described:
            continue
        split = record.get("split")
        if found.setdefault(name, split) != split:
            both = f"{shown(found[name])} and {shown(split)}"
            raise ValueError(f"{captions}: {shown(name)} has records of the splits {both}, expected one split")
    if not any(found.values()):
        return {}
    for name, split in found.items():
        if not isinstance(split, str):
            raise ValueError(f"{captions}: {shown(name)} is of split {shown(split)}, expected a name as others have")
    return found


class _Names:
    """Which photo a name in a file of captions stands for."""

    def __init__(self, photos: Sequence[Photo], captions: Path) -> None:
        self.captions, self.whole = captions, {photo.name for photo in photos}
        self.paths = {os.path.abspath(photo.path): photo.name for photo in photos if photo.place == photo.path}
        self.short: dict[str, list[str]] = {}
        for photo in photos:
            path = Path(photo.name)
            for short in {path.name, path.stem}:
                self.short.setdefault(short, []).append(photo.name)

    def photo(self, name: str) -> str | None:
        """The name of the photo; None if there is none. Raises a ValueError where several fit."""
        if name in self.whole:
            return name
        if "/" in name:
            return self.paths.get(os.path.abspath(user_path(name)))
        fitting = self.short.get(name, [])
        if len(fitting) > 1:
            some = f"{len(fitting)} photos, such as {shown(fitting[0])} and {shown(fitting[1])}"
            raise ValueError(f"{self.captions}: {shown(name)} fits {some}; expected the path of one of them")
        return fitting[0] if fitting else None


def _why_none(photos: Sequence[Photo], named: Sequence[str], strangers: Sequence[str]) -> str:
    """What is wrong with a file of captions that has none for the photos."""
    if named:
        return f"the lists of captions of the {len(named)} photos that it names are empty, as of {shown(named[0])}"
    if not strangers:
        return f"empty, {CAPTION_ENDINGS} with photos and captions"
    names = f"it names {shown(strangers[0])}, the first photo is {shown(photos[0].name)}"
    return f"captions of none of the {len(photos)} photos; {names}"
