"""HDF5 files of features, in the layouts of public code; they need h5py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.arrays import Array
from itmatch.formats.features.base import (
    BOXES,
    COUNTS,
    FEATURES,
    HEIGHTS,
    IDS,
    LABELS,
    MOST_BYTES,
    WIDTHS,
    Grid,
    RegionReader,
    RegionRecord,
    first_of,
    record_of,
)
from itmatch.formats.files import existing_file
from itmatch.formats.messages import reason, shown, shown_keys
from itmatch.formats.pickles import parse_pickle

_STARTS = ("pos_boxes", "starts_ends")
_END = "_features"  # of a name, behind the id
_WANTED = (*FEATURES, *BOXES, *COUNTS, *WIDTHS, *HEIGHTS, *LABELS, "size")


class H5Features(RegionReader):
    """The photos of an ``.h5`` or ``.hdf5`` file, in one of these layouts.

    - arrays of all photos: ``features`` (N, R, F), and ``boxes``, ``ids``, ``num_boxes``, ``image_w`` ... if there are
      any;
    - rows of all photos behind one another: ``image_features`` (rows, F), ``image_bb``, and ``pos_boxes`` (N, 2), where
      the rows of a photo begin and end;
    - a group per photo: ``ID/features``, ``ID/boxes`` ...;
    - arrays per photo: ``ID_features``, ``ID_boxes``, ``ID_size``; or ``ID`` alone.

    A file without ids may have ``NAME_imgid2idx.pkl`` beside it, a pickled dict, which is read without running it.

    Args:
        path: the file.
        grid: which of the sizes of a grid is that of the features, where it cannot be seen.
        names: what the photos are called, where the file does not say it.

    Raises:
        ImportError: h5py is missing.
        ValueError: none of these layouts, or a file that points to others.
    """

    def __init__(self, path: Path, grid: Grid | None = None, names: Sequence[str] | None = None) -> None:
        self._path, self._grid = existing_file(path), grid
        self._file: Any = None
        self._root()  # a missing library is told of as such
        with _told(str(path)):
            self._open(names)

    def _open(self, names: Sequence[str] | None) -> None:
        """Find the layout, and the photos."""
        keys = self._keys(self._root())
        self._arrays = [key for key in _WANTED + IDS + _STARTS if key in keys]
        self._read: Callable[[int], RegionRecord]
        if any(key in keys for key in FEATURES):
            self._read = self._from_arrays
            self._open_arrays(names)
        else:
            self._read = self._from_own
            ends = [key[: -len(_END)] for key in keys if key.endswith(_END)]
            self.names = ends or [key for key in keys if key.rpartition("_")[2] not in ("boxes", "size", "grids")]
            self._ending = _END if ends else ""
            if not self.names:
                raise ValueError(f"{self._path}: no features; it holds {shown_keys(keys)}")
            self.counts = [self._own_count(name) for name in self.names]

    def read(self, index: int) -> RegionRecord:
        """One photo."""
        with _told(f"{self._path}: {shown(self.names[index])}"):
            return self._read(index)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the open file, which a process does not share with another."""
        return {**self.__dict__, "_file": None}

    def _root(self) -> Any:
        if self._file is None:
            try:
                import h5py
            except ImportError as error:
                raise ImportError('reading HDF5 files needs h5py: pip install "itmatch[h5]"') from error
            try:
                self._file = h5py.File(self._path, "r")
            except OSError as error:
                raise ValueError(f"{self._path}: no HDF5 file, or a damaged one ({reason(error)})") from None
        return self._file

    def _keys(self, group: Any) -> list[str]:
        """The names in a group, none of which may point elsewhere."""
        import h5py

        keys = list(group)
        for key in keys:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{self._path}: {shown(key)} points to another place, expected data")
        return keys

    def _data(self, group: Any, key: str, part: Any = ()) -> Array:
        """A part of an array of plain numbers."""
        dataset = group[key]
        if not hasattr(dataset, "dtype") or dataset.external or dataset.is_virtual:
            raise ValueError(f"{self._path}: {shown(key)} holds no numbers of its own")
        rows = dataset.shape[1:] if isinstance(part, int) else dataset.shape
        if isinstance(part, slice):
            rows = (max(0, part.stop - part.start), *dataset.shape[1:])
        if dataset.dtype.kind not in "iufSO" or math.prod(rows) * dataset.dtype.itemsize > MOST_BYTES:
            raise ValueError(
                f"{self._path}: {shown(key)} is {dataset.dtype} of shape {dataset.shape}, expected numbers of up to "
                f"{MOST_BYTES} bytes per photo"
            )
        return np.asarray(dataset[part])

    def _open_arrays(self, names: Sequence[str] | None) -> None:
        root = self._root()
        key = next(key for key in FEATURES if key in self._arrays)
        starts = next((key for key in _STARTS if key in self._arrays), None)
        photos = int(root[starts or key].shape[0])
        ids = next((key for key in IDS if key in self._arrays), None)
        if names is None and ids is not None:
            names = [_text(value) for value in self._data(root, ids).reshape(-1)]
        self.names = list(names) if names is not None else self._beside(photos)
        if len(self.names) != photos:
            raise ValueError(f"{self._path}: {len(self.names)} ids for {photos} photos")
        self._ranges: Array | None = None
        if starts is not None:
            ranges = self._data(root, starts).astype(np.int64)
            rows = root[key].shape[0]
            if ranges.ndim != 2 or ranges.shape[1] != 2 or (ranges < 0).any() or (ranges > rows).any():
                raise ValueError(
                    f"{self._path}: {starts} of shape {ranges.shape}, expected (photos, 2) rows of 0..{rows}"
                )
            self._ranges = ranges
            self.counts = np.maximum(0, ranges[:, 1] - ranges[:, 0]).tolist()
            return
        counts = next((key for key in COUNTS if key in self._arrays), None)
        shape = root[key].shape[1:]
        usual = shape[0] if len(shape) == 2 else 1 if len(shape) == 1 else len(self._from_arrays(0).features)
        self.counts = [usual] * photos
        if counts is not None:
            found = self._data(root, counts).reshape(-1)
            self.counts = np.clip(found.astype(np.int64), 0, usual).tolist()
            if len(self.counts) != photos:
                raise ValueError(f"{self._path}: {len(self.counts)} {counts} for {photos} photos")

    def _beside(self, photos: int) -> list[str]:
        """Ids in the file that bottom-up-attention-vqa writes beside its own; else the numbers of the photos."""
        stem = self._path.with_suffix("").name
        path = self._path.with_name(f"{stem}_imgid2idx.pkl")
        if not path.exists():
            return [str(index) for index in range(photos)]
        content = parse_pickle(path.read_bytes(), path)
        if not isinstance(content, dict) or sorted(map(str, content.values())) != sorted(map(str, range(photos))):
            raise ValueError(f"{path}: expected a dict of the {photos} photos and their places")
        return [str(name) for name, _ in sorted(content.items(), key=lambda item: int(item[1]))]

    def _from_arrays(self, index: int) -> RegionRecord:
        root, part = self._root(), index
        if self._ranges is not None:
            start, stop = self._ranges[index].tolist()
            rows = slice(start, max(start, stop))
            content = {key: self._data(root, key, rows) for key in (*FEATURES, *BOXES, *LABELS) if key in self._arrays}
            sides = {key: self._data(root, key, part) for key in (*WIDTHS, *HEIGHTS) if key in self._arrays}
            return record_of(self.names[index], content | sides, f"{self._path}: {self.names[index]}", self._grid)
        wanted = [key for key in self._arrays if key in _WANTED and root[key].shape[:1] == (len(self.names),)]
        content = {key: self._data(root, key, part) for key in wanted}
        return self._record(index, content)

    def _from_own(self, index: int) -> RegionRecord:
        root, name = self._root(), self.names[index]
        thing = root[name + self._ending]
        if hasattr(thing, "dtype"):
            content = {"features": self._data(root, name + self._ending)}
            for key in ("boxes", "size"):
                if f"{name}_{key}" in root:
                    content[key] = self._data(root, f"{name}_{key}")
        else:
            content = {key: self._data(thing, key) for key in self._keys(thing) if key in _WANTED}
        return self._record(index, content)

    def _own_count(self, name: str) -> int:
        thing = self._root()[name + self._ending]
        found = thing if hasattr(thing, "dtype") else first_of(thing, FEATURES)
        if found is not None and hasattr(found, "shape") and len(found.shape) == 2:
            return int(found.shape[0])
        return len(self._from_own(self.names.index(name)).features)

    def _record(self, index: int, content: Mapping[str, Any]) -> RegionRecord:
        size = content.get("size")
        if size is not None and size.size == 2:  # of the photo; height first, as the size of an array
            height, width = size.reshape(-1).tolist()
            content = {"image_w": width, "image_h": height, **content}
        return record_of(self.names[index], content, f"{self._path}: {shown(self.names[index])}", self._grid)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Errors of h5py about a damaged file name it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{where}: cannot be read ({reason(error)})") from None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
