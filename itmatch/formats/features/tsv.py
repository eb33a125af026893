"""Lines of tab-separated fields: those of bottom-up-attention and LXMERT, and of VinVL; numbers stand in base64."""

from __future__ import annotations

import base64
import binascii
import re
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
from itmatch.formats.text import read_lines

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
FIELDS = {
    6: BOTTOM_UP,
    7: (*BOTTOM_UP, "cls_prob"),
    10: (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
        *("num_boxes", "boxes", "features"),
    ),
}
_HEAD = 4096  # bytes of a line in which the number of boxes is looked for
_NUM_BOXES = re.compile(rb'"num_boxes"\s*:\s*(\d{1,9})')
_LAST_SIX = 2054  # numbers of a region of VinVL: 2048, the box, and its width and height


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
            for line, start, parts in _lines(path):
                names = self._names_of(parts, f"{path}:{line}")
                if parts[0].decode("utf-8", "replace") in (names[0], "image_id", "img_id"):
                    continue  # the names themselves
                self.names.append(parts[_place(names, ("image_id", "img_id"))].decode("utf-8", "replace").strip())
                self.counts.append(_count(parts[names.index("num_boxes")], f"{path}:{line}: num_boxes"))
                self._places.append((path, line, start))

    def read(self, index: int) -> RegionRecord:
        """One line."""
        path, line, start = self._places[index]
        where = f"{path}:{line}"
        parts = _line_at(path, start, where).split(b"\t")
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


class VinvlTsv(RegionReader):
    """``features.tsv`` of VinVL and Oscar, with ``features.lineidx`` and ``predictions.tsv`` where they are there.

    A line is an id and ``{"num_boxes": 2, "features": base64}``, or an id, the number and the base64. Boxes come from
    the ``objects`` in ``predictions.tsv``; without it from the last six of 2 054 numbers, which are the box.

    Args:
        path: ``features.tsv``, or the folder that it lies in.

    Raises:
        ValueError: a line is none of these, or the files do not agree.
    """

    def __init__(self, path: Path) -> None:
        path = path / "features.tsv" if path.is_dir() else path
        self._path, self.names, self.counts = existing_file(path), [], []
        self._places: list[int] = []
        with self._path.open("rb") as file:
            for line, start in enumerate(self._starts(file), 1):
                name, count = self._head(file, start, f"{path}:{line}")
                self.names.append(name)
                self.counts.append(count)
                self._places.append(start)
        self._predictions = path.with_name("predictions.tsv")
        self._boxes: dict[str, int] | None = None
        if self._predictions.exists():
            self._boxes = {parts[0].decode("utf-8", "replace"): start for _, start, parts in _lines(self._predictions)}

    def read(self, index: int) -> RegionRecord:
        """One line, and that of its boxes."""
        name, count, where = self.names[index], self.counts[index], f"{self._path}:{index + 1}"
        parts = _line_at(self._path, self._places[index], where).split(b"\t")
        if len(parts) == 2:
            content = _object(parts[1], where)
            given = content.get("features")
            if not isinstance(given, str):
                raise ValueError(f"{where}: no text 'features'")
            raw = given.encode()
        else:
            raw = parts[-1]
        features = floats_of(raw, count, f"{where}: features")
        if self._boxes is not None:
            boxes, size = self._predicted(name, count)
            return RegionRecord(name, features, boxes, size)
        return RegionRecord(name, features, _last_six(features))

    def _predicted(self, name: str, count: int) -> tuple[Array, tuple[float, float] | None]:
        """Boxes and size of a photo in ``predictions.tsv``."""
        where = f"{self._predictions}: {shown(name)}"
        if self._boxes is None or name not in self._boxes:
            raise ValueError(f"{where}: no line of this photo")
        parts = _line_at(self._predictions, self._boxes[name], where).split(b"\t")
        content = _object(parts[-1], where, "objects")
        objects = content["objects"]
        rects = [thing.get("rect") for thing in objects if isinstance(thing, dict)]
        if len(rects) != count:
            raise ValueError(f"{where}: {len(rects)} objects, expected {count}, the regions of its features")
        try:
            boxes = np.array(rects, np.float32).reshape(count, 4)
        except (TypeError, ValueError):
            raise ValueError(f"{where}: a 'rect' that is no four numbers") from None
        return checked_boxes(boxes, count, where), size_of(content, where)

    def _starts(self, file: BinaryIO) -> Iterator[int]:
        """Where the lines begin: by the .lineidx, or by reading all."""
        index = self._path.with_suffix(".lineidx")
        if not index.exists():
            yield from (start for _, start, _ in _lines(self._path))
            return
        size = self._path.stat().st_size
        for line, text in enumerate(read_lines(index), 1):
            start = int(text) if is_count(text.strip()) else -1
            file.seek(max(0, start - 1))
            if not 0 <= start < size or (start and file.read(1) != b"\n"):
                raise ValueError(f"{index}:{line}: {shown(text)}, expected where a line of {self._path.name} begins")
            yield start

    @staticmethod
    def _head(file: BinaryIO, start: int, where: str) -> tuple[str, int]:
        """Id and number of regions of the line that begins there."""
        place = file.tell()
        file.seek(start)
        head = file.read(_HEAD)
        file.seek(place)
        parts = head.split(b"\n")[0].split(b"\t")
        if len(parts) not in (2, 3):
            raise ValueError(
                f"{where}: {len(parts)} fields between tabs, expected id and json, or id, number and base64"
            )
        name = parts[0].decode("utf-8", "replace").strip()
        if len(parts) == 3:
            return name, _count(parts[1], f"{where}: number of boxes")
        found = _NUM_BOXES.search(parts[1])
        if found is None:  # it comes behind the features
            file.seek(start)
            content = _object(_read_line(file, where).split(b"\t")[1], where)
            file.seek(place)
            return name, _count(str(content.get("num_boxes")).encode(), f"{where}: num_boxes")
        return name, _count(found[1], f"{where}: num_boxes")


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


def _lines(path: Path) -> Iterator[tuple[int, int, list[bytes]]]:
    """Number, first byte and fields of each line."""
    with existing_file(path).open("rb") as file:
        line, start = 0, 0
        while text := _read_line(file, f"{path}:{line + 1}"):
            line += 1
            if text.strip():
                yield line, start, text.split(b"\t")
            start = file.tell()
        if line == 0:
            raise ValueError(f"{path}: empty")


def _line_at(path: Path, start: int, where: str) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return _read_line(file, where)


def _read_line(file: BinaryIO, where: str) -> bytes:
    text = file.readline(2 * MOST_BYTES)
    if len(text) >= 2 * MOST_BYTES:
        raise ValueError(f"{where}: a line of more than {2 * MOST_BYTES} bytes")
    return text


def _count(text: bytes, where: str) -> int:
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


def _object(text: bytes, where: str, key: str | None = None) -> Mapping[str, Any]:
    """The dict that json stands for, with a list under ``key``."""
    content = parse_json(text.decode("utf-8", "replace"), where)
    if not isinstance(content, dict) or (key is not None and not isinstance(content.get(key), list)):
        raise ValueError(f"{where}: expected json of a dict" + (f" with a list {key!r}" if key else ""))
    return content


def _last_six(features: Array) -> Array | None:
    """Boxes as fractions, where the last six numbers are x1, y1, x2, y2 and, in either order, width and height."""
    if features.ndim != 2 or features.shape[1] != _LAST_SIX:
        return None
    box, sides = features[:, -6:-2], features[:, -2:]
    expected = box[:, 2:] - box[:, :2]
    alike = np.allclose(sides, expected, atol=1e-3) or np.allclose(sides, expected[:, ::-1], atol=1e-3)
    return checked_boxes(box, len(box), "") if alike and bool(((box >= -0.01) & (box <= 1.01)).all()) else None
