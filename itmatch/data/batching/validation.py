"""What can be wrong with a split: one sentence a problem, however many places have it.

The functions are generators of sentences. A dataset raises the first; ``itmatch data check`` lists them all. Arrays are
looked at in blocks, because they may be memory maps larger than the memory.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from itmatch.formats.arrays import Array

MOST = np.iinfo(np.int64).max  # uint64 goes beyond
BOX_TOLERANCE = 0.01  # boxes rounded to pixels leave the image by up to a pixel
_BLOCK = 4096  # images per block
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # halves of a pair of surrogates come from json


def caption_problems(
    captions: Sequence[str], where: str, *, blank: bool = False, listed: bool = False
) -> Iterator[str]:
    """Captions that are no text or, unless ``blank`` ones are wanted, have no visible character.

    ``where`` is a file, whose lines count from 1; or a list (``listed``), whose places count from 0.
    """
    yield from (problems := list(_text_problems(captions, where, "caption", listed=listed)))
    empty = [] if problems or blank else [place for place, text in enumerate(captions) if not is_visible(text)]
    if empty:
        yield f"{_entry(where, empty[0], listed=listed)}: empty caption{_more(len(empty))}"


def id_problems(ids: Sequence[str], where: str, *, listed: bool = False) -> Iterator[str]:
    """Ids that are no text, empty ones, and ids that come twice; ``where`` as in :func:`caption_problems`."""
    yield from (problems := list(_text_problems(ids, where, "image id", listed=listed)))
    if problems:
        return
    seen: dict[str, int] = {}
    twice = []
    for place, name in enumerate(ids):
        if not name.strip():
            yield f"{_entry(where, place, listed=listed)}: empty image id"
            return
        if name in seen:
            twice.append((place, name, seen[name]))
        seen.setdefault(name, place)
    if twice:
        place, name, first = twice[0]
        before = f"at index {first}" if listed else f"on line {first + 1}"
        yield f"{_entry(where, place, listed=listed)}: image id {name!r} is already {before}{_more(len(twice))}"


def _text_problems(texts: Sequence[Any], where: str, what: str, *, listed: bool) -> Iterator[str]:
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            entry = _entry(where, place, listed=listed)
            yield f"{entry}: {text!r} of type {type(text).__name__}, expected the {what} as a string"
            return
        wrong = _NO_TEXT.search(text)
        if wrong:
            yield f"{_entry(where, place, listed=listed)}: {what} with {wrong[0]!r}, which no text has"
            return


def _entry(where: str, place: int, *, listed: bool) -> str:
    """An entry of a list, or a line of a file."""
    return f"{where}[{place}]" if listed else f"{where}:{place + 1}"


def is_visible(text: str) -> bool:
    """Whether there is more than blanks, control characters and marks of no width."""
    return any(not char.isspace() and unicodedata.category(char) not in ("Cc", "Cf") for char in text)


def length_problems(
    lengths: Array, num_images: int, num_regions: int | None, where: str, *, least: int = 1
) -> Iterator[str]:
    """Region counts: integers of shape (N,) between ``least`` and the rows there are."""
    if lengths.shape != (num_images,) or lengths.dtype.kind not in "iu":
        yield f"{where}: {lengths.dtype} of shape {lengths.shape}, expected integers of shape ({num_images},)"
        return
    most = MOST if num_regions is None else num_regions
    bad = np.flatnonzero((lengths < least) | (lengths > most))
    if len(bad):
        wanted = f"{least}..{'' if num_regions is None else num_regions}"
        yield f"{where}: image {bad[0]} has {lengths[bad[0]]} regions, expected {wanted}{_more(len(bad))}"


def box_problems(
    boxes: Array, num_images: int, num_regions: int | None, where: str, lengths: Array | None = None
) -> Iterator[str]:
    """Boxes (N, R, 4): finite, x1 <= x2 and y1 <= y2, inside [0, 1]."""
    yield from (problems := list(_shape_problems(boxes, num_images, num_regions, (4,), "f", where)))
    if problems:
        return
    first: tuple[int, int] | None = None
    count = 0
    for start in range(0, num_images, _BLOCK):
        block = np.asarray(boxes[start : start + _BLOCK], np.float32)
        with np.errstate(invalid="ignore"):
            good = ((block >= -BOX_TOLERANCE) & (block <= 1 + BOX_TOLERANCE)).all(-1)  # False for NaN
            good &= (block[..., 0] <= block[..., 2]) & (block[..., 1] <= block[..., 3])
        bad = ~good & _real(lengths, start, block.shape[0], block.shape[1])
        count += int(bad.sum())
        if first is None and bad.any():
            image, region = np.argwhere(bad)[0]
            first = (start + int(image), int(region))
    if first is not None:
        box = [round(float(x), 3) for x in boxes[first]]
        yield (
            f"{where}: image {first[0]} region {first[1]} has box {box}, expected x1 <= x2 and y1 <= y2 as fractions "
            f"in [0, 1]{_more(count)}"
        )


def label_problems(labels: Array, num_images: int, num_regions: int | None, where: str) -> Iterator[str]:
    """Labels (N, R): integers, -1 = unknown."""
    yield from (problems := list(_shape_problems(labels, num_images, num_regions, (), "iu", where)))
    if problems:
        return
    bad = (labels < -1) | (labels > MOST)
    if bad.any():
        image, region = np.argwhere(bad)[0]
        found = labels[image, region]
        yield f"{where}: image {image} region {region} has label {found}, expected 0 or more, or -1 = unknown"


def relation_problems(
    relations: Array, num_images: int, num_regions: int | None, where: str, lengths: Array | None = None
) -> Iterator[str]:
    """Relations (N, K, 3): subject and object are regions of the image; a row with a -1 is absent."""
    if relations.ndim != 3 or relations.shape[::2] != (num_images, 3) or relations.dtype.kind not in "iu":
        yield (
            f"{where}: {relations.dtype} of shape {relations.shape}, expected integers of shape ({num_images}, K, 3): "
            "subject, predicate, object"
        )
        return
    first: tuple[int, int, int] | None = None
    count = 0
    for start in range(0, num_images, _BLOCK):
        given = np.asarray(relations[start : start + _BLOCK])
        block = given.astype(np.int64)
        most = MOST if num_regions is None else num_regions
        room = np.full(len(block), most) if lengths is None else np.asarray(lengths[start : start + _BLOCK], np.int64)
        bad = (block[..., ::2] >= room[:, None, None]).any(-1) & (block != -1).all(-1)
        bad |= (block < -1).any(-1) | (given > MOST).any(-1)  # such a one has turned into -1
        count += int(bad.sum())
        if first is None and bad.any():
            image, edge = (int(x) for x in np.argwhere(bad)[0])
            first = (start + image, edge, int(room[image]))
    if first is not None:
        image, edge, regions = first
        yield (
            f"{where}: image {image} relation {edge} is {relations[image, edge].tolist()}, expected regions of "
            f"0..{regions - 1} and a predicate of 0 or more, or -1 = absent{_more(count)}"
        )


def score_problems(scores: Array, relations: Array | None, where: str) -> Iterator[str]:
    """Confidences (N, K) in [0, 1], one a relation; those of absent relations are not looked at."""
    if relations is None:
        yield f"{where}: relation scores without relations"
        return
    if scores.shape != relations.shape[:2] or scores.dtype.kind != "f":
        yield f"{where}: {scores.dtype} of shape {scores.shape}, expected floats of shape {relations.shape[:2]}"
        return
    with np.errstate(invalid="ignore"):
        bad = ~((scores >= 0) & (scores <= 1)) & (np.asarray(relations) != -1).all(-1)
    if bad.any():
        image, edge = np.argwhere(bad)[0]
        value = float(scores[image, edge])
        yield f"{where}: image {image} relation {edge} has score {value:g}, expected 0..1{_more(int(bad.sum()))}"


def _shape_problems(
    array: Array, num_images: int, num_regions: int | None, last: tuple[int, ...], kind: str, where: str
) -> Iterator[str]:
    regions: Any = "R" if num_regions is None else num_regions
    good = array.ndim == 2 + len(last) and array.shape[0] == num_images and array.shape[2:] == last
    if not good or array.dtype.kind not in kind or (num_regions is not None and array.shape[1] != num_regions):
        wanted = ", ".join(str(x) for x in (num_images, regions, *last))
        what = "floats" if kind == "f" else "integers"
        yield f"{where}: {array.dtype} of shape {array.shape}, expected {what} of shape ({wanted})"


def _real(lengths: Array | None, start: int, images: int, regions: int) -> Array:
    if lengths is None:
        return np.ones((images, regions), bool)
    return np.asarray(np.arange(regions) < np.asarray(lengths[start : start + images])[:, None])


def _more(count: int) -> str:
    return f" ({count} such in all)" if count > 1 else ""
