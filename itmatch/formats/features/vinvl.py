"""``features.tsv`` of VinVL and Oscar, with the files that lie beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from itmatch.formats.arrays import Array
from itmatch.formats.features.base import RegionReader, RegionRecord, checked_boxes, size_of
from itmatch.formats.features.tsv import count_of, floats_of, line_at, lines_of, object_of, read_line
from itmatch.formats.files import existing_file
from itmatch.formats.messages import is_count, shown
from itmatch.formats.text import read_lines

_HEAD = 4096  # bytes of a line in which the number of boxes is looked for
_NUM_BOXES = re.compile(rb'"num_boxes"\s*:\s*(\d{1,9})')
_LAST_SIX = 2054  # numbers of a region of VinVL: 2048, the box, and its width and height


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
            self._boxes = {
                parts[0].decode("utf-8", "replace"): start for _, start, parts in lines_of(self._predictions)
            }

    def read(self, index: int) -> RegionRecord:
        """One line, and that of its boxes."""
        name, count, where = self.names[index], self.counts[index], f"{self._path}:{index + 1}"
        parts = line_at(self._path, self._places[index], where).split(b"\t")
        if len(parts) == 2:
            content = object_of(parts[1], where)
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
        parts = line_at(self._predictions, self._boxes[name], where).split(b"\t")
        content = object_of(parts[-1], where, "objects")
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
            yield from (start for _, start, _ in lines_of(self._path))
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
            return name, count_of(parts[1], f"{where}: number of boxes")
        found = _NUM_BOXES.search(parts[1])
        if found is None:  # it comes behind the features
            file.seek(start)
            content = object_of(read_line(file, where).split(b"\t")[1], where)
            file.seek(place)
            return name, count_of(str(content.get("num_boxes")).encode(), f"{where}: num_boxes")
        return name, count_of(found[1], f"{where}: num_boxes")


def _last_six(features: Array) -> Array | None:
    """Boxes as fractions, where the last six numbers are x1, y1, x2, y2 and, in either order, width and height."""
    if features.ndim != 2 or features.shape[1] != _LAST_SIX:
        return None
    box, sides = features[:, -6:-2], features[:, -2:]
    expected = box[:, 2:] - box[:, :2]
    alike = np.allclose(sides, expected, atol=1e-3) or np.allclose(sides, expected[:, ::-1], atol=1e-3)
    return checked_boxes(box, len(box), "") if alike and bool(((box >= -0.01) & (box <= 1.01)).all()) else None
