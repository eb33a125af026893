"""Writing a folder of precomputed features from files of another layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from itmatch.data.batching import validation
from itmatch.data.conversion.lists import PhotoList, find_photos, save_texts
from itmatch.data.sources.boxes import fractions, in_pixels
from itmatch.formats.arrays import Array, array_rows, save_array
from itmatch.formats.features.base import RegionReader, RegionRecord
from itmatch.formats.files import written_together
from itmatch.formats.messages import counted, shown

_COLUMNS = ("boxes", "ims_bbx", "sizes", "ims_size", "lengths", "labels", "relations", "relation_scores")
_HALF = 65504.0  # the largest of float16


@dataclass(frozen=True)
class Conversion:
    """How to write.

    Args:
        dtype: of the features. float16 takes half the disk and rounds by up to a part in 2048.
        without_regions: photos in which nothing was detected are kept, with a length of 0, or left out.
        missing: photos without features are an error, or are left out with their captions.
        boxes: whether to write boxes.
        numbers: of a region, the first so many; None = all.
        overwrite: whether to replace splits that are there.

    Raises:
        ValueError: numbers that are no count.
    """

    dtype: Literal["float32", "float16"] = "float32"
    without_regions: Literal["zeros", "drop"] = "zeros"
    missing: Literal["error", "drop"] = "error"
    boxes: bool = field(default=True, kw_only=True)
    numbers: int | None = None
    overwrite: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.numbers is not None and self.numbers < 1:
            raise ValueError(f"numbers: {self.numbers}, expected 1 or more")


def convert_regions(
    reader: RegionReader, lists: Sequence[PhotoList], out: Path, how: Conversion | None = None, key: str | None = None
) -> list[str]:
    """Write all splits into a folder, together or not at all; returns what was done, in sentences.

    Photos are read one by one in the order of their files and written where they belong, so that the memory that is
    taken does not grow with the features.

    Args:
        reader: of the features.
        lists: the photos and captions of each split.
        out: the folder.
        how: see :class:`Conversion`.
        key: which kind of name the files use; None = the one that fits.

    Raises:
        FileExistsError: a split is there already.
        ValueError: photos without features, or features, boxes or captions that are no good.
    """
    how = how or Conversion()
    for one in lists:
        if (out / f"{one.split}_ims.npy").exists() and not how.overwrite:
            raise FileExistsError(f"{out / one.split}_ims.npy: there is one already; --overwrite replaces it")
    stale = [out / f"{one.split}_{column}.npy" for one in lists for column in _COLUMNS]
    stale += [out / f"{one.split}_caps.txt" for one in lists if not any(one.captions)]
    report = []
    with written_together(removing=[path for path in stale if path.exists()]):
        for one, places in zip(lists, find_photos(lists, reader, key), strict=True):
            report += _Split(one, places, reader, how).write(out)
    return report


class _Split:
    """One split on its way into a folder."""

    def __init__(self, photos: PhotoList, places: list[int | None], reader: RegionReader, how: Conversion) -> None:
        self.photos, self.reader, self.how, self.told = photos, reader, how, list[str]()
        missing = [photo for photo, place in zip(photos.ids, places, strict=True) if place is None]
        if missing and how.missing == "error":
            raise ValueError(
                f"{photos.where}: no features of {len(missing)} of its {len(places)} photos, the first is "
                f"{shown(missing[0])}; --missing drop leaves them out"
            )
        found = [(row, place) for row, place in enumerate(places) if place is not None]
        empty = [photos.ids[row] for row, place in found if reader.counts[place] == 0]
        if how.without_regions == "drop":
            found = [(row, place) for row, place in found if reader.counts[place]]
        for what, names in (("without features", missing), ("in which nothing was detected", empty)):
            if names:
                done = "kept, with a length of 0" if names is empty and how.without_regions == "zeros" else "left out"
                self.told.append(
                    f"{photos.split}: {counted(len(names), 'photos')} {what}, the first is {shown(names[0])}: {done}"
                )
        if not any(reader.counts[place] for _, place in found):
            raise ValueError(f"{photos.where}: no photo with regions is left")
        self.rows, self.places = [row for row, _ in found], [place for _, place in found]
        self.counts = np.array([reader.counts[place] for place in self.places])

    def write(self, out: Path) -> list[str]:
        """Write the files; returns what to tell."""
        where, count, most = out / self.photos.split, len(self.places), int(self.counts.max())
        first = self._read(int(self.counts.argmax()))
        width = min(self.how.numbers or first.features.shape[1], first.features.shape[1])
        shape, dtype = (count, most, width), np.dtype(self.how.dtype)
        boxes = np.zeros((count, most, 4), np.float32) if self.how.boxes and first.boxes is not None else None
        labels = None if first.labels is None else np.full((count, most), -1, np.int32)
        sizes = np.ones((count, 2))
        with array_rows(Path(f"{where}_ims.npy"), shape, dtype) as put:
            for row in sorted(range(count), key=lambda row: self.places[row]):
                record, block = self._read(row), np.zeros(shape[1:], dtype)
                block[: self.counts[row]] = self._features(record, self.counts[row], width, dtype)
                put(row, block)
                for what, column in (("boxes", boxes), ("labels", labels)):
                    values = getattr(record, what)
                    if column is not None and self.counts[row]:
                        if values is None or len(values) != self.counts[row]:
                            raise ValueError(f"features of {shown(record.name)}: no {what}, which other photos have")
                        column[row, : self.counts[row]] = values
                if record.size is None and boxes is not None and in_pixels(boxes[row]):
                    raise ValueError(
                        f"features of {shown(record.name)}: boxes in pixels without width and height of the photo; "
                        "--no-boxes writes none"
                    )
                sizes[row] = sizes[row] if record.size is None else record.size
        self._save_columns(where, boxes, sizes, labels)
        texts = self._save_texts(where)
        size = f"{np.prod(shape, dtype=float) * dtype.itemsize / 1e9:.2g} GB"
        return [
            f"{self.photos.split}: {counted(count, 'photos')}, {counted(texts, 'captions')}, {shape} {dtype} ({size})",
            *self.told,
        ]

    def _read(self, row: int) -> RegionRecord:
        try:
            return self.reader.read(self.places[row])
        except OSError as error:  # one of writing would name another file
            raise ValueError(str(error)) from error

    def _features(self, record: RegionRecord, count: int, width: int, dtype: np.dtype[np.generic]) -> Array:
        where = f"features of {shown(record.name)}"
        if count == 0:
            return np.zeros((0, width), dtype)
        if record.features.shape[0] != count or record.features.shape[1] < width:
            raise ValueError(f"{where}: shape {record.features.shape}, expected ({count}, {width})")
        values = record.features[:, :width]
        if self.how.numbers is None and record.features.shape[1] != width:
            raise ValueError(f"{where}: shape {record.features.shape}, expected ({count}, {width})")
        if not np.isfinite(values).all():
            raise ValueError(f"{where}: NaN or inf")
        with np.errstate(over="ignore"):
            rounded = values.astype(dtype)
        if not np.isfinite(rounded).all():
            raise ValueError(f"{where}: {np.abs(values).max():g} is beyond {dtype}")
        return rounded

    def _save_columns(self, where: Path, boxes: Array | None, sizes: Array, labels: Array | None) -> None:
        count, most = len(self.counts), int(self.counts.max())
        if (self.counts < most).any():
            save_array(f"{where}_lengths.npy", self.counts.astype(np.int32))
        if boxes is not None:
            boxes = fractions(boxes, sizes, where) if in_pixels(boxes) else boxes
            for problem in validation.box_problems(boxes, count, most, f"{where}: boxes", self.counts):
                raise ValueError(f"{problem}; --no-boxes writes none")
            save_array(f"{where}_boxes.npy", boxes.clip(0, 1))
        if labels is not None:
            for problem in validation.label_problems(labels, count, most, f"{where}: labels"):
                raise ValueError(problem)
            save_array(f"{where}_labels.npy", labels)

    def _save_texts(self, where: Path) -> int:
        """Write ids and captions; returns the number of captions."""
        ids, captions = [self.photos.ids[row] for row in self.rows], [self.photos.captions[row] for row in self.rows]
        return save_texts(where, ids, captions)
