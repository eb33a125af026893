"""Where the region features of a split live: in one array, or in a file for every image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from itmatch.formats.arrays import Array, PickledByFile, open_array
from itmatch.formats.features.base import FEATURES, Grid, RegionReader, flat_grid
from itmatch.formats.features.photo_files import read_photo_file
from itmatch.formats.messages import shown

_FLOATS = ("float16", "float32", "float64")


class FeatureStore(ABC):
    """Region features by image; reads an image when asked for it.

    Attributes:
        feature_dim: numbers per region.
        num_regions: rows an image has room for, or None when it differs from image to image.
    """

    feature_dim: int
    num_regions: int | None

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Array:
        """(R, F) features of one image, float16, float32 or float64; R is 0 where nothing was detected."""


def open_features(path: str | Path, grid: Grid | None = None) -> Array:
    """(N, R, F) features in a ``.npy`` file, as a view of its memory map; see :func:`region_array`.

    Of records (a structured array) they are the field ``features``, or another of the usual names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, or a shape that has no regions.
    """
    return region_array(open_array(path, dtypes=_FLOATS, fields=FEATURES), str(path), grid)


def region_array(array: Array, where: str, grid: Grid | None = None) -> Array:
    """(N, R, F) features as a view of an array.

    Args:
        array: (N, R, F); (N, F), a vector per image, which is one region; or a grid (N, H, W, F) or (N, F, H, W).
        where: for error messages.
        grid: which of the two a grid is. None = told by the two sizes that are equal.

    Raises:
        ValueError: other numbers or shapes, or a grid of which it cannot be seen.
    """
    if array.ndim not in (2, 3, 4) or array.dtype not in _FLOATS:
        raise ValueError(
            f"{where}: {array.dtype} of shape {array.shape}, expected float16, float32 or float64 (images, regions, "
            "size), (images, size), or a grid of four sizes"
        )
    if array.ndim == 4:
        return flat_grid(array, where, grid)
    return array if array.ndim == 3 else array[:, None]


def _how_to_make_one(given: Any) -> str:
    """How a numpy array is made of what was given in its place."""
    if isinstance(given, (list, tuple)):
        return " (np.stack makes one of arrays of the same shape)"
    return " (its .numpy() is one)" if isinstance(given, Tensor) else ""


class ArrayFeatures(PickledByFile, FeatureStore):
    """Rows of one array, usually a memory map.

    Args:
        array: (N, R, F) float16, float32 or float64; or as :func:`region_array` takes it.
        rows: (M,) the rows that this split consists of, in order; None = all.
        name: for error messages.
        grid: see :func:`region_array`.

    Example:
        >>> import numpy as np
        >>> store = ArrayFeatures(np.zeros((10, 36, 8), np.float16), rows=np.array([4, 2]))
        >>> len(store), store.num_regions, store[1].shape
        (2, 36, (36, 8))
    """

    def __init__(
        self, array: Array, *, rows: Array | None = None, name: str = "features", grid: Grid | None = None
    ) -> None:
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):  # whose mask would be lost
            raise TypeError(
                f"{name}: a {type(array).__name__}, expected a numpy array{_how_to_make_one(array)}, "
                "or a FeatureStore, which gives them image by image"
            )
        array = region_array(array, name, grid)
        if 0 in array.shape[1:]:
            raise ValueError(f"{name}: shape {array.shape}, expected at least one region and one number per region")
        if rows is not None and len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(array):
            raise ValueError(f"{name}: rows {int(rows.min())}..{int(rows.max())} asked for, it has {len(array)}")
        self._array, self._rows = array, rows
        self.num_regions: int
        self.num_regions, self.feature_dim = array.shape[1], array.shape[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers as they are stored."""
        return self._array.dtype

    def __len__(self) -> int:
        return len(self._array) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Array:
        row: Array = self._array[index if self._rows is None else self._rows[index]]
        return row


class FileFeatures(FeatureStore):
    """Photos of a file in another layout whose photos are read one by one: HDF5, for example.

    Args:
        reader: of the file.
        places: of the photos in the file, in image order.
    """

    def __init__(self, reader: RegionReader, places: Sequence[int]) -> None:
        if not places:
            raise ValueError("no photos")
        self._reader, self._places = reader, list(places)
        self.num_regions = None
        filled = next((place for place in places if reader.counts[place]), places[0])
        self.feature_dim = reader.read(filled).features.shape[1]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Array:
        record = self._reader.read(self._places[index])
        if len(record.features) == 0:  # of no numbers, in text
            return np.zeros((0, self.feature_dim), np.float32)
        if record.features.shape[1] != self.feature_dim:
            found = record.features.shape
            raise ValueError(f"features of {shown(record.name)}: {found}, expected (regions, {self.feature_dim})")
        return record.features


class FolderFeatures(FeatureStore):
    """One ``.npy`` or ``.npz`` file per image, of (R, F) features; R may differ, F may not.

    Args:
        paths: the files, in image order. Only the first is opened now.
        grid: which of the sizes of a grid is F, where it cannot be seen.
    """

    def __init__(self, paths: Sequence[Path], grid: Grid | None = None) -> None:
        if not paths:
            raise ValueError("no feature files")
        self._paths, self._grid = list(paths), grid
        self.num_regions = None
        self.feature_dim = read_photo_file(self._paths[0], grid).features.shape[1]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Array:
        path = self._paths[index]
        array = read_photo_file(path, self._grid).features
        if array.shape[1] != self.feature_dim:
            raise ValueError(f"{path}: shape {array.shape}, expected (regions, {self.feature_dim})")
        return array
