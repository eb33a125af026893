"""Lines of tab-separated fields, whose numbers stand in base64: those of bottom-up-attention, ViLBERT and LXMERT."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from itmatch.formats.arrays import Array
from itmatch.formats.features.base import (
    HEIGHTS,
    MOST_BYTES,
    MOST_REGIONS,
    WIDTHS,
    RegionReader,
    RegionRecord,
    checked_boxes,
    size_of,
)
from itmatch.formats.files import existing_file
from itmatch.formats.json import parse_json
from itmatch.formats.messages import is_count, shown

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
FIELDS = {
    6: BOTTOM_UP,
    7: (*BOTTOM_UP, "cls_prob"),
    10: (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
        *("num_boxes", "boxes", "features"),
    ),
}


class BottomUpTsv(RegionReader):
    """The files of bottom-up-attention's ``generate_tsv.py``, of ViLBERT's, and of LXMERT's.

    There is no line of names, so that the number of fields says which they are. Whether the width or the height comes
    first differs from writer to writer, and is told by whoever compares them with the boxes.

    Args:
        paths: the files, which belong together.
        fields: names of the fields; None = those of :data:`FIELDS`.

    Raises:
        ValueError: lines of another number of fields, or a number of boxes that is none.
    """

    def __init__(self, paths: Sequence[Path], fields: Sequence[str] | None = None) -> None:
        self.names, self.counts = [], []
        self._places: list[tuple[Path, int, int]] = []  # file, line, its first byte
        self._fields = tuple(fields) if fields else None
        if self._fields and not {"num_boxes", "features"} <= set(self._fields):
            raise ValueError(f"fields: {', '.join(self._fields)}, expected num_boxes and features among them")
        for path in paths:
            for line, start, parts in lines_of(path):
                names = self._names_of(parts, f"{path}:{line}")
                if parts[0].decode("utf-8", "replace") in (names[0], "image_id", "img_id"):
                    continue  # the names themselves
                self.names.append(parts[_place(names, ("image_id", "img_id"))].decode("utf-8", "replace").strip())
                self.counts.append(count_of(parts[names.index("num_boxes")], f"{path}:{line}: num_boxes"))
                self._places.append((path, line, start))

    def read(self, index: int) -> RegionRecord:
        """One line."""
        path, line, start = self._places[index]
        where = f"{path}:{line}"
        parts = line_at(path, start, where).split(b"\t")
        content = dict(zip(self._names_of(parts, where), parts, strict=True))
        count = self.counts[index]
        features = floats_of(content["features"], count, f"{where}: features")
        boxes = floats_of(content["boxes"], count, f"{where}: boxes", columns=4) if "boxes" in content else None
        sides = {key: _number(content[key]) for key in (*WIDTHS, *HEIGHTS) if key in content}
        labels = None
        if "objects_id" in content:
            data = _decoded(content["objects_id"], f"{where}: objects_id")
            if len(data) != 8 * count:
                raise ValueError(f"{where}: objects_id of {len(data)} bytes, expected {count} integers of 8")
            labels = np.frombuffer(data, "<i8")
        boxes = None if boxes is None else checked_boxes(boxes, count, where)
        return RegionRecord(self.names[index], features, boxes, size_of(sides, where), labels)

    def _names_of(self, parts: list[bytes], where: str) -> tuple[str, ...]:
        names = self._fields or FIELDS.get(len(parts))
        if names is None or len(names) != len(parts):
            wanted = len(names) if names else " or ".join(map(str, FIELDS))
            raise ValueError(f"{where}: {len(parts)} fields between tabs, expected {wanted}: {', '.join(BOTTOM_UP)}")
        return names


def floats_of(text: bytes, rows: int, where: str, columns: int | None = None) -> Array:
    """(rows, columns) float32 numbers from base64; boxes may be float64.

    Raises:
        ValueError: no base64, or not as many bytes as the rows need.
    """
    data = _decoded(text, where)
    if columns is not None and rows and len(data) == rows * columns * 8:
        return np.frombuffer(data, "<f8").reshape(rows, columns)
    step = 4 * rows * (columns or 1)
    if (rows == 0 and data) or (rows and (len(data) == 0 or len(data) % step or (columns and len(data) != step))):
        wanted = f"{step}" if columns else f"a multiple of {step}"
        raise ValueError(f"{where}: {len(data)} bytes for {rows} boxes, expected {wanted}, float32")
    if rows == 0:
        return np.zeros((0, columns or 0), np.float32)
    return np.frombuffer(data, "<f4").reshape(rows, -1)


def _decoded(text: bytes, where: str) -> bytes:
    text = text.strip()
    if text[:2] == b"b'" and text[-1:] == b"'":  # as Python 3 writes the bytes of code for Python 2
        text = text[2:-1]
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{where}: no base64 ({error})") from None


def lines_of(path: Path) -> Iterator[tuple[int, int, list[bytes]]]:
    """Number, first byte and fields of each line."""
    with existing_file(path).open("rb") as file:
        line, start = 0, 0
        while text := read_line(file, f"{path}:{line + 1}"):
            line += 1
            if text.strip():
                yield line, start, text.split(b"\t")
            start = file.tell()
        if line == 0:
            raise ValueError(f"{path}: empty")


def line_at(path: Path, start: int, where: str) -> bytes:
    """The line that begins at a byte of a file."""
    with path.open("rb") as file:
        file.seek(start)
        return read_line(file, where)


def read_line(file: BinaryIO, where: str) -> bytes:
    """The next line of a file, of no more than twice the bytes of a photo."""
    text = file.readline(2 * MOST_BYTES)
    if len(text) >= 2 * MOST_BYTES:
        raise ValueError(f"{where}: a line of more than {2 * MOST_BYTES} bytes")
    return text


def count_of(text: bytes, where: str) -> int:
    """The number of regions that a field holds."""
    word = text.decode("utf-8", "replace").strip()
    if not is_count(word) or int(word) > MOST_REGIONS:
        raise ValueError(f"{where} is {shown(word)}, expected a whole number of up to {MOST_REGIONS}")
    return int(word)


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _place(names: Sequence[str], wanted: Sequence[str]) -> int:
    return next((place for place, name in enumerate(names) if name in wanted), 0)


def object_of(text: bytes, where: str, key: str | None = None) -> Mapping[str, Any]:
    """The dict that json stands for, with a list under ``key``."""
    content = parse_json(text.decode("utf-8", "replace"), where)
    if not isinstance(content, dict) or (key is not None and not isinstance(content.get(key), list)):
        raise ValueError(f"{where}: expected json of a dict" + (f" with a list {key!r}" if key else ""))
    return content
