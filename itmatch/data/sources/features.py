"""Where the region features of a split live: in one array, or in a file for every image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itmatch.formats.arrays import Array, PickledByFile, open_array

_FLOATS = ("float16", "float32")


class FeatureStore(ABC):
    """Region features by image; reads an image when asked for it.

    Attributes:
        feature_dim: numbers a region.
        num_regions: rows an image has room for, or None when it differs from image to image.
    """

    feature_dim: int
    num_regions: int | None

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Array:
        """(R, F) features of one image, float16 or float32."""


class ArrayFeatures(PickledByFile, FeatureStore):
    """Rows of one (N, R, F) array, usually a memory map.

    Args:
        array: (N, R, F) float16 or float32.
        rows: (M,) the rows that this split consists of, in order; None = all.
        name: for error messages.

    Example:
        >>> import numpy as np
        >>> store = ArrayFeatures(np.zeros((10, 36, 8), np.float16), rows=np.array([4, 2]))
        >>> len(store), store.num_regions, store[1].shape
        (2, 36, (36, 8))
    """

    def __init__(self, array: Array, *, rows: Array | None = None, name: str = "features") -> None:
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):  # whose mask would be lost
            raise TypeError(f"{name}: a {type(array).__name__}, expected a numpy array")
        if array.ndim != 3 or array.dtype not in _FLOATS:
            raise ValueError(
                f"{name}: {array.dtype} of shape {array.shape}, expected float16 or float32 (images, regions, size)"
            )
        if 0 in array.shape[1:]:
            raise ValueError(f"{name}: shape {array.shape}, expected at least one region and one number a region")
        if rows is not None and len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(array):
            raise ValueError(f"{name}: rows {int(rows.min())}..{int(rows.max())} asked for, it has {len(array)}")
        self._array, self._rows = array, rows
        self.num_regions, self.feature_dim = array.shape[1], array.shape[2]

    def __len__(self) -> int:
        return len(self._array) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Array:
        row: Array = self._array[index if self._rows is None else self._rows[index]]
        return row


class FolderFeatures(FeatureStore):
    """One ``.npy`` file of shape (R, F) an image; R may differ, F may not.

    Args:
        paths: the files, in image order. Only the first is opened now.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise ValueError("no feature files")
        self._paths = list(paths)
        self.num_regions = None
        self.feature_dim = open_array(self._paths[0], ndim=2, dtypes=_FLOATS).shape[1]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Array:
        path = self._paths[index]
        array = open_array(path, ndim=2, dtypes=_FLOATS)
        if array.shape[0] == 0 or array.shape[1] != self.feature_dim:
            raise ValueError(f"{path}: shape {array.shape}, expected (one or more regions, {self.feature_dim})")
        return array
