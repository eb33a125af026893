"""Where photos are: a folder, a list, tar files, a folder of ``datasets``."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from itmatch.errors import PhotoError
from itmatch.formats.files import existing_file
from itmatch.formats.hub.photos import hub_files, hub_photos, parquet_photo
from itmatch.formats.json import parse_json
from itmatch.formats.messages import reason, shown
from itmatch.formats.photos import PHOTO_ENDINGS, open_photo
from itmatch.formats.records import texts_of_record
from itmatch.formats.text import read_lines

Made = TypeVar("Made")
_MOST_BYTES = 256 << 20  # of one photo in a tar file


@dataclass(frozen=True)
class Photo:
    """One photo, not read yet.

    Args:
        name: what it is called in all that is written: its path in the folder, in the list, or in the tar file.
        path: the file.
        start: of a photo in a .tar or .arrow file, where its bytes begin; else None.
        size: and how many there are.
        row: of a photo in a .parquet file; else None.
        captions: that came with it in one of those.
        split: that it is of in a folder of ``datasets``; else None.
    """

    name: str
    path: str
    start: int | None = None
    size: int = 0
    row: int | None = None
    captions: tuple[str, ...] = ()
    split: str | None = None

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.path if self.start is None and self.row is None else f"{self.path}/{self.name}"

    def read(self) -> Any:
        """The photo as an RGB image of Pillow; raises as :func:`itmatch.formats.photos.open_photo`."""
        if self.row is not None:
            return open_photo(parquet_photo(Path(self.path), self.row), name=self.place)
        if self.start is None:
            return open_photo(self.path)
        if self.size > _MOST_BYTES:
            raise ValueError(f"{self.place}: {self.size} bytes, expected at most {_MOST_BYTES}")
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return open_photo(file.read(self.size), name=self.place)


def find_photos(source: Path, split: str | None = None) -> list[Photo]:
    """The photos of a folder, a list or tar files, in an order that is always the same.

    Args:
        source: a folder, all photos in it and below it; or, with tar files in it and no photos, those; or, with files
            of ``datasets`` (.arrow, .parquet) in it and neither, their rows; a ``.tar`` file, in the layout of
            webdataset (``a.jpg`` with ``a.txt`` or ``a.json`` beside it for the captions); or a text file with a path
            per line, from the list's own folder.
        split: of a folder of ``datasets`` with several splits, the one that is taken; None = all.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: there are no photos in it, or two of one name.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if not path.name.startswith(".") and path.is_file())
        photos = (
            [Photo(path.relative_to(source).as_posix(), str(path)) for path in files if _is_photo(path.name)]
            or [photo for path in files if path.suffix == ".tar" for photo in _in_tar(path)]
            or _of_hub(source, split)
        )
    elif source.suffix in (".json", ".jsonl", ".csv", ".tsv"):
        raise ValueError(
            f"{source}: a {source.suffix} file, expected a folder of photos, a text file of paths, or a .tar"
        )
    elif existing_file(source).suffix == ".tar":
        photos = _in_tar(source)
    else:
        lines = [line.strip() for line in read_lines(source)]
        photos = [Photo(line, str(source.parent / line)) for line in lines if line]
    if not photos:
        raise ValueError(f"{source}: no photos, expected files such as a{', a'.join(PHOTO_ENDINGS[:3])}, or tar files")
    seen: dict[str, Photo] = {}
    for photo in photos:
        if "\n" in photo.name or "\t" in photo.name or "\r" in photo.name:
            raise ValueError(f"{source}: {shown(photo.name)}, expected a name without tabs and line ends")
        if seen.setdefault(photo.name, photo) is not photo:
            raise ValueError(f"{source}: {shown(photo.name)} is there twice: {seen[photo.name].path}, {photo.path}")
    return photos


def made_of(
    photos: Sequence[Photo], make: Callable[[list[Any]], Made], errors: dict[str, str]
) -> Iterator[tuple[list[int], Made]]:
    """What is made of photos together; or, where nothing can be made of one of them, of each alone.

    Args:
        photos: to be read.
        make: makes something of images of Pillow, or raises a PhotoError where it cannot for one of them.
        errors: gets, by name, what is wrong with photos that cannot be read, or of which nothing can be made.

    Yields:
        Places in ``photos``, and what was made of those.

    Raises:
        OSError: a photo could not be read for a reason that lies in the disk.
    """
    images: dict[int, Any] = {}
    for place, photo in enumerate(photos):
        try:
            images[place] = photo.read()
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
                raise  # of the disk: the photo itself may be good
            errors[photo.name] = reason(error)
    if not images:
        return
    try:
        together = make(list(images.values()))
    except PhotoError:  # the others are taken without it
        for place, image in images.items():
            try:
                alone = make([image])
            except PhotoError as error:
                errors[photos[place].name] = f"{photos[place].place}: {reason(error)}"
            else:
                yield [place], alone
    else:
        yield list(images), together


def _in_tar(path: Path) -> list[Photo]:
    photos: list[tuple[str, int, int]] = []
    texts: dict[str, tuple[str, ...]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, ending = member.name.rpartition(".")
                if not member.isfile() or Path(member.name).name.startswith("."):
                    continue
                if _is_photo(member.name):
                    photos.append((member.name, member.offset_data, member.size))
                elif ending in ("txt", "json") and member.size < 1 << 20:
                    file = tar.extractfile(member)
                    text = "" if file is None else file.read().decode("utf-8", "replace")
                    texts[key] = texts.get(key) or _of_member(text, ending, f"{path}/{member.name}")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path}: not a tar file ({reason(error)})") from error
    return [
        Photo(name, str(path), start, size, captions=texts.get(name.rpartition(".")[0], ()))
        for name, start, size in photos
    ]


def _of_hub(source: Path, split: str | None) -> list[Photo]:
    """The photos of a folder of ``datasets``; of several splits those of the one that is wanted, where one is."""
    found = [photo for file in hub_files(source) for photo in hub_photos(file, described=False)]
    splits = sorted({photo.split for photo in found})
    if split is not None and len(splits) > 1:
        if split not in splits:
            raise ValueError(f"{source}: no split {shown(split)} in it, expected one of {', '.join(splits)}")
        found = [photo for photo in found if photo.split == split]
    return [
        Photo(
            one.name, str(one.file), one.start, one.size, None if one.start is not None else one.row, texts, one.split
        )
        for one in found
        for texts in [tuple(text for text in one.captions if text)]
    ]


def _of_member(text: str, ending: str, where: str) -> tuple[str, ...]:
    """The captions in a text (a line each) or json of a tar file."""
    if ending == "txt":
        lines: Sequence[str] = text.splitlines()
    else:
        record = parse_json(text, where)
        lines = (texts_of_record(record) if isinstance(record, dict) else None) or []
    return tuple(one for line in lines if (one := " ".join(line.split())))


def _is_photo(name: str) -> bool:
    return name.lower().endswith(PHOTO_ENDINGS)
