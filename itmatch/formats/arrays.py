"""Opening and writing ``.npy`` files: memory-mapped, never unpickled, with errors that name the file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from itmatch.formats.files import user_path, written_beside

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
    vars(array)["opened_as"] = _identity(path)  # beside numpy's own filename and offset
    return array


def save_array(path: str | Path, array: Array) -> None:
    """Write a ``.npy`` file beside its place and rename it, so that nobody ever sees half a file."""
    with written_beside(path) as beside, beside.open("w+b") as file:  # with "wb" numpy's errors do not say why
        np.save(file, array, allow_pickle=False)


def take_rows(array: Array, rows: Array) -> Array:
    """Some rows of an array; where they are equally spaced a view, so that those of a memory map stay in their file."""
    step = int(rows[1] - rows[0]) if len(rows) > 1 else 1
    if len(rows) and step > 0 and bool((np.diff(rows) == step).all()):
        view: Array = array[rows[0] : rows[-1] + 1 : step]
        return view
    copy: Array = array[rows]
    return copy


class PickledByFile:
    """Base for classes that hold arrays: memory maps among them are pickled as the name of their file.

    So a worker process opens the file instead of receiving a copy. This goes for parts of a map, too. What was written
    to a copy-on-write map, which is in no file, is not pickled.

    Raises:
        ValueError: by pickling, when another file has taken the place of the one that was opened: the two processes
            would see different data.
    """

    def __getstate__(self) -> dict[str, Any]:
        """The attributes, with the places in their files for memory maps."""
        return {name: _in_file(value) for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files again."""
        for name, value in state.items():
            self.__dict__[name] = value.opened() if isinstance(value, _InFile) else value


@dataclass(frozen=True)
class _InFile:
    """Where the numbers of an array lie in a file."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def opened(self) -> Array:
        """The array, as a copy-on-write map."""
        try:
            whole = np.memmap(self.path, np.uint8, "c")
            return np.ndarray(self.shape, self.dtype, whole, self.offset, self.strides)
        except (TypeError, ValueError) as error:  # fewer bytes than it takes, or none
            raise ValueError(f"{self.path}: was replaced since it was opened; start again") from error


def _in_file(value: Any) -> Any:
    """The place of an array that is a part of a memory map; anything else as it is."""
    root = value if type(value) in (np.ndarray, np.memmap) else None
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or value.size == 0:
        return value
    path = os.fspath(root.filename)
    if vars(root).get("opened_as", _identity(path)) != _identity(path):
        raise ValueError(f"{path}: was replaced since it was opened; start again")
    start = root.offset + value.ctypes.data - root.ctypes.data
    return _InFile(path, value.dtype, value.shape, value.strides, start)


def _identity(path: str | Path) -> tuple[int, int]:
    """What two files never share, whatever their names; the map keeps its file even when that has lost its name."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


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
