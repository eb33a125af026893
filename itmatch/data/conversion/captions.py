"""Lists of photos and captions from text files: numbered captions of all photos, or a line per photo."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from itmatch.data.batching import validation
from itmatch.data.batching.validation import is_visible
from itmatch.data.conversion.lists import PhotoList, karpathy_lists, save_texts
from itmatch.formats.files import written_together
from itmatch.formats.messages import counted, shown
from itmatch.formats.text import read_lines
from itmatch.ops.checks import check_whole_or_none

_CAPTION = re.compile(r"(?P<photo>[^#\t]+)#(?:[^#\s]+#)?[0-9]+[\t ](?P<text>.*)")  # a.jpg#0, or a#zhm#0
_ENDING = re.compile(r"\.(token|txt|[a-z]{2})")
_OTHER_ENDINGS = (".pt", ".gz", ".xz")  # two letters that are no language


def is_caption_file(path: Path) -> bool:
    """Whether a file is one of captions by its name: ``.token``, ``.txt``, or a language such as ``.en``."""
    return bool(_ENDING.fullmatch(path.suffix)) and path.suffix not in _OTHER_ENDINGS and not path.is_dir()


def is_numbered(path: Path) -> bool:
    """Whether the first line of a file is ``PHOTO#NUMBER``, a tab or a blank, and a caption."""
    with path.open("rb") as file:
        first = file.readline(100_000).decode("utf-8", "replace")
    return _CAPTION.fullmatch(first.removeprefix("\ufeff").rstrip("\r\n")) is not None


@dataclass(frozen=True)
class TextConversion:
    """How to write.

    Args:
        captions_per_image: the first so many captions of a photo; None = all. Blank ones are left out.
        missing: photos without a caption are an error, or are left out.
        overwrite: whether to replace lists that are there.
    """

    captions_per_image: int | None = None
    missing: Literal["error", "drop"] = "error"
    overwrite: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_whole_or_none("captions_per_image", self.captions_per_image)


def convert_captions(
    sources: Sequence[Path],
    out: Path,
    splits: Mapping[str, Sequence[str]],
    karpathy: Path | None = None,
    how: TextConversion | None = None,
) -> list[str]:
    """Write ``{split}_ids.txt`` and ``{split}_caps.txt`` into a folder, all or none; returns what was done.

    Args:
        sources: files of numbered captions, ``photo.jpg#0``, a tab and ``a dog`` on a line, as Flickr8K, Flickr30K and
            COCO-CN have them; or files with a line per photo, as Multi30K has them, of the photos of the one split.
        out: the folder.
        splits: by the name that a split gets, files with a photo per line; with ``karpathy``, splits of the json.
        karpathy: a json that says which photo is in which split.
        how: see :class:`TextConversion`.

    Raises:
        FileExistsError: a split is there already.
        ValueError: a line is no caption, a photo has none, or the numbers of lines do not agree.
    """
    how = how or TextConversion()
    photos = _photos(splits, karpathy)
    for split in photos:
        if (out / f"{split}_caps.txt").exists() and not how.overwrite:
            raise FileExistsError(f"{out / split}_caps.txt: there is one already; --overwrite replaces it")
    lines = [read_lines(source) for source in sources]
    if all(found and _CAPTION.fullmatch(found[0]) for found in lines):
        captions = numbered_captions(sources, lines)
    else:
        captions = _a_line_per_photo(sources, lines, photos)
    report = []
    with written_together():
        for split, listed in photos.items():
            names, texts, told = _of_split(split, listed, captions, how)
            count = save_texts(out / split, names, texts)
            report += [f"{split}: {counted(len(names), 'photos')}, {counted(count, 'captions')}", *told]
    return report


def _photos(splits: Mapping[str, Sequence[str]], karpathy: Path | None) -> dict[str, list[str]]:
    """The names of the photos of each split."""
    if karpathy is not None:
        lists: list[PhotoList] = karpathy_lists(karpathy, splits or None)
        return {one.split: one.keys["filename"] for one in lists}
    if not splits or not all(splits.values()):
        raise ValueError("captions say nothing of splits; give --split NAME=FILE, or --karpathy")
    photos = {}
    for split, files in splits.items():
        photos[split] = [line.strip().partition("#")[0] for file in files for line in read_lines(file)]
        for problem in validation.id_problems(photos[split], ", ".join(files)):
            raise ValueError(problem)
    return photos


def numbered_captions(sources: Sequence[Path], lines: Sequence[list[str]]) -> dict[str, tuple[str, list[str]]]:
    """By the name of a photo without its ending: its name, and its captions in the order of the files.

    Raises:
        ValueError: a line is no such caption.
    """
    captions: dict[str, tuple[str, list[str]]] = {}
    for source, found in zip(sources, lines, strict=True):
        for number, line in enumerate(found, 1):
            match = _CAPTION.fullmatch(line)
            if match is None:
                raise ValueError(f"{source}:{number}: {shown(line)}, expected PHOTO#NUMBER, a tab and a caption")
            photo = match["photo"].strip()
            captions.setdefault(_stem(photo), (photo, []))[1].append(match["text"].strip())
    return captions


def _a_line_per_photo(
    sources: Sequence[Path], lines: Sequence[list[str]], photos: Mapping[str, list[str]]
) -> dict[str, tuple[str, list[str]]]:
    """The same, from files whose lines are captions of the photos of the one split, in its order."""
    if len(photos) != 1:
        raise ValueError(
            f"{sources[0]}: no PHOTO#NUMBER at the beginning, so a line is of the photo on the same line of a list; "
            f"{len(photos)} lists, expected one, by --split NAME=FILE"
        )
    [listed] = photos.values()
    for source, found in zip(sources, lines, strict=True):
        if len(found) != len(listed):
            raise ValueError(f"{source}: {len(found)} lines, expected {len(listed)}, one per photo of the split")
    groups = zip(*([line.strip() for line in found] for found in lines), strict=True)
    return {_stem(photo): (photo, list(group)) for photo, group in zip(listed, groups, strict=True)}


def _of_split(
    split: str, listed: Sequence[str], captions: Mapping[str, tuple[str, list[str]]], how: TextConversion
) -> tuple[list[str], list[list[str]], list[str]]:
    """The photos of a split with their captions, blank ones left out; and what is to be told."""
    names, texts, lacking, blank = list[str](), list[list[str]](), list[str](), 0
    for photo in listed:
        name, found = captions.get(_stem(photo), (photo, []))
        visible = [text for text in found if is_visible(text)]
        blank += len(found) - len(visible)
        if visible:
            names.append(photo if Path(photo).suffix else name)
            texts.append(visible[: how.captions_per_image])
        else:
            lacking.append(photo)
    if lacking and (how.missing == "error" or not names):
        some = ", ".join(map(shown, lacking[:3])) + ", ..." * (len(lacking) > 3)
        raise ValueError(
            f"{split}: no captions of {len(lacking)} of its {len(listed)} photos: {some}; "
            "--missing drop leaves them out"
        )
    told = [f"{split}: {counted(blank, 'blank captions')} left out"] if blank else []
    if lacking:
        told.append(
            f"{split}: {counted(len(lacking), 'photos')} without captions left out, the first is {shown(lacking[0])}"
        )
    return names, texts, told


def _stem(photo: str) -> str:
    return Path(photo).stem if Path(photo).suffix.lower() in (".jpg", ".jpeg", ".png") else photo
