"""Opening and writing ``.npy`` files: memory-mapped, never unpickled, with errors that name the file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from itmatch.files import user_path, written_beside

Array = NDArray[Any]


def open_array(path: str | Path, *, ndim: int | None = None, dtypes: Sequence[str] | None = None) -> Array:
    """Memory-map a ``.npy`` file; nothing is read until an element is.

    The map is copy-on-write: writing to the array changes this process' view and never the file.

    Args:
        path: the file.
        ndim: number of dimensions it must have; None = any.
        dtypes: accepted dtypes by numpy name (``"float16"``) or kind (``"float"``, ``"int"``); None = any.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no ``.npy`` file, one that is cut off or goes on after the array, pickled objects, wrong dimensions
            or dtype.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_array(f"{folder}/x.npy", np.zeros((2, 3), np.float16))
        ...     open_array(f"{folder}/x.npy", ndim=2, dtypes=["float16", "float32"]).shape
        (2, 3)
    """
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file" if not path.exists() else f"{path}: a folder, expected a .npy file"
        )
    shape, dtype, start = _read_header(path)
    if dtype.hasobject:
        raise ValueError(
            f"{path}: holds pickled Python objects, expected plain numbers; save it again as a numeric array"
        )
    if not dtype.isnative:
        raise ValueError(f"{path}: dtype {dtype.str} is in foreign byte order; save it again on this machine")
    wanted = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    found = path.stat().st_size
    if found < wanted:
        raise ValueError(f"{path}: truncated, {found} bytes where shape {shape} {dtype} needs {wanted}")
    if found > wanted:  # several arrays saved into one file, of which only the first would be seen
        raise ValueError(
            f"{path}: {found} bytes where shape {shape} {dtype} needs {wanted}; is there a second array in it?"
        )
    if ndim is not None and len(shape) != ndim:
        raise ValueError(f"{path}: shape {shape}, expected {ndim} dimensions")
    if dtypes is not None and not _accepts(dtypes, dtype):
        raise ValueError(f"{path}: dtype {dtype}, expected {' or '.join(dtypes)}")
    if 0 in shape:
        return np.empty(shape, dtype)  # an empty file cannot be mapped
    array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def save_array(path: str | Path, array: Array) -> None:
    """Write a ``.npy`` file beside its place and rename it, so that nobody ever sees half a file."""
    with written_beside(user_path(path)) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def mapped_file(array: Array) -> Path | None:
    """The file that an array is the memory map of, or None for a plain array and for a part of a file."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename is not None:
        return Path(os.fspath(array.filename))
    return None


def _read_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    with path.open("rb") as file:
        try:
            version = npy_format.read_magic(file)
            reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, _, dtype = reader(file)
        except ValueError as error:
            raise ValueError(f"{path}: not a .npy file ({str(error).splitlines()[0]})") from None
        return shape, dtype, file.tell()


def _accepts(dtypes: Sequence[str], dtype: np.dtype[Any]) -> bool:
    kinds = {"float": "f", "int": "iu"}
    return any(dtype.kind in kinds[name] if name in kinds else dtype == np.dtype(name) for name in dtypes)
