"""Where photos are: a folder, a list, tar files, a folder of ``datasets``; and the captions that go with them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from itmatch.formats.files import existing_file, read_json
from itmatch.formats.hub.photos import hub_files, hub_photos, parquet_photo
from itmatch.formats.json import parse_json
from itmatch.formats.messages import reason, shown
from itmatch.formats.photos import PHOTO_ENDINGS, open_photo
from itmatch.formats.text import read_lines

_NAMES = ("file", "file_name", "filename", "image", "path", "id")
_CAPTIONS = ("captions", "caption", "sentences", "raw", "text")
_TEXTS = (".txt", ".tsv")
_T = TypeVar("_T")
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


def with_captions(photos: Sequence[Photo], captions: Path | None) -> tuple[list[Photo], dict[str, list[str]]]:
    """The photos that have captions, and the captions by photo; all photos and no captions where there are none.

    Args:
        photos: of :func:`find_photos`.
        captions: a json (a list of records with a file and captions, also under ``images``; or captions by file), or
            a text file of lines ``file<tab>caption``; None = those that came in the tar files.

    Raises:
        ValueError: a file that is none of these, or that names none of the photos.
    """
    if captions is None:
        found = {photo.name: list(photo.captions) for photo in photos if photo.captions}
        return (list(photos), {}) if not found else ([one for one in photos if one.name in found], found)
    pairs = _of_text(captions) if captions.suffix in _TEXTS else _of_json(captions)
    by_name: dict[str, list[str]] = {}
    for name, texts in pairs:
        by_name.setdefault(name, []).extend(one for text in texts if (one := " ".join(text.split())))
    chosen = [(photo, _entry(photo, by_name) or []) for photo in photos]
    kept = {photo.name: texts for photo, texts in chosen if texts}
    if not kept:
        first, photo = shown(next(iter(by_name), "")), shown(photos[0].name)
        raise ValueError(
            f"{captions}: captions of none of the {len(photos)} photos; it names {first}, the first photo is {photo}"
        )
    return [photo for photo, texts in chosen if texts], kept


def splits_of(photos: Sequence[Photo], captions: Path) -> dict[str, str]:
    """The split of each photo as the records of a json name it (``split``, as in Karpathy's files); or nothing.

    Raises:
        ValueError: a record names a split, and that of a photo does not.
    """
    if captions.suffix in _TEXTS:
        return {}
    by_name = {name: record.get("split") for name, record in _records(captions)}
    found = {photo.name: _entry(photo, by_name) for photo in photos}
    if not any(found.values()):
        return {}
    for name, split in found.items():
        if not isinstance(split, str):
            raise ValueError(f"{captions}: {shown(name)} is of split {shown(split)}, expected a name as others have")
    return {name: str(split) for name, split in found.items()}


def _entry(photo: Photo, by_name: Mapping[str, _T]) -> _T | None:
    """What stands under the name of a photo: its path, the name of its file, or that without its ending."""
    name = Path(photo.name)
    return by_name.get(photo.name) or by_name.get(name.name) or by_name.get(name.stem)


def _of_text(path: Path) -> Iterable[tuple[str, list[str]]]:
    for number, line in enumerate(read_lines(path), 1):
        name, tab, caption = line.partition("\t")
        if line.strip() and not tab:
            raise ValueError(f"{path}:{number}: {shown(line)}, expected a file and a caption with a tab between them")
        if line.strip():
            yield name.strip(), [caption]


def _of_json(path: Path) -> Iterable[tuple[str, list[str]]]:
    for number, (name, record) in enumerate(_records(path)):
        texts = _texts(record)
        if texts is None:
            raise _no_record(path, number, record)
        yield name, texts


def _records(path: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The records of a json, by what names their photos."""
    content = read_json(path, object)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        content = content["images"]
    if isinstance(content, dict):
        content = [{"file": name, "captions": texts} for name, texts in content.items()]
    for number, record in enumerate(content if isinstance(content, list) else []):
        name = next((record[key] for key in _NAMES if key in record), None) if isinstance(record, dict) else None
        if name is None:
            raise _no_record(path, number, record)
        yield str(name), record


def _no_record(path: Path, number: int, record: Any) -> ValueError:
    return ValueError(f"{path}: record {number} is {shown(record)}, expected a file and captions")


def _texts(record: Mapping[str, Any]) -> list[str] | None:
    """The captions of a record: a text, several, or records with a text each."""
    given = next((record[key] for key in _CAPTIONS if key in record), None)
    texts: list[str] = []
    for one in given if isinstance(given, list) else [given]:
        found = _texts(one) if isinstance(one, dict) else [one] if isinstance(one, str) else None
        if found is None:
            return None
        texts += found
    return texts


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
        lines = (_texts(record) if isinstance(record, dict) else None) or []
    return tuple(one for line in lines if (one := " ".join(line.split())))


def _is_photo(name: str) -> bool:
    return name.lower().endswith(PHOTO_ENDINGS)
