"""Opening and writing ``.npy`` files: memory-mapped, never unpickled, with errors that name the file."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from itmatch.formats.files import existing_file, written_beside
from itmatch.formats.messages import reason, short, shown, shown_keys

Array = NDArray[Any]


def open_array(
    path: str | Path, *, ndim: int | None = None, dtypes: Sequence[str] | None = None, fields: Sequence[str] = ()
) -> Array:
    """Memory-map a ``.npy`` file; nothing is read until an element is.

    The map is copy-on-write: writing to the array changes this process' view and never the file.

    Args:
        path: the file.
        ndim: number of dimensions it must have; None = any.
        dtypes: accepted dtypes by numpy name (``"float16"``) or kind (``"float"``, ``"int"``); None = any.
        fields: of an array of records (a structured one) the first of these fields that it has is the array.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no ``.npy`` file, one that is cut off or goes on after the array, pickled objects, wrong dimensions
            or dtype, or records without such a field.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_array(f"{folder}/x.npy", np.zeros((2, 3), np.float16))
        ...     open_array(f"{folder}/x.npy", ndim=2, dtypes=["float16", "float32"]).shape
        (2, 3)
    """
    path = existing_file(path)
    with path.open("rb") as file:
        whole_shape, whole = read_header(file, path.stat().st_size, path)
    field = _field_of(whole, fields, path)
    dtype, inner = (whole if field is None else whole[field]), ()
    if dtype.subdtype is not None:
        dtype, inner = dtype.subdtype
    shape = (*whole_shape, *inner)
    if ndim is not None and len(shape) != ndim:
        raise ValueError(f"{path}: shape {shown(shape)}, expected {ndim} dimensions")
    if dtypes is not None and not _accepts(dtypes, dtype):
        raise ValueError(f"{path}: dtype {short(str(dtype))}, expected {' or '.join(dtypes)}")
    try:
        if 0 in whole_shape:
            return np.empty(shape, dtype)  # an empty file cannot be mapped
        array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # lengths, or sizes of a number, that numpy does not take
        raise ValueError(
            f"{path}: shape {shown(shape)} {short(str(dtype))} cannot be mapped ({reason(error)})"
        ) from None
    vars(array)["opened_as"] = _identity(path)  # beside numpy's own filename and offset
    return array if field is None else array[field]


def field_names(path: str | Path) -> tuple[str, ...]:
    """The fields of the records in a ``.npy`` file; none where it holds plain numbers, or is no such file."""
    try:
        with existing_file(path).open("rb") as file:
            return read_header(file, os.fstat(file.fileno()).st_size, path).dtype.names or ()
    except (OSError, ValueError):
        return ()


def _field_of(dtype: np.dtype[Any], fields: Sequence[str], path: Path) -> str | None:
    names = dtype.names or ()
    if not names or not fields:
        return None
    found = next((name for name in fields if name in names), None)
    if found is None:
        raise ValueError(f"{path}: records of {shown_keys(names)}, expected numbers, or a field {', '.join(fields)}")
    return found


def read_array(path: str | Path) -> Array:
    """The whole of a small ``.npy`` file; :func:`open_array` is for large ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`read_header`.
    """
    path = existing_file(path)
    return array_of(path.read_bytes(), str(path))


class NpyHeader(NamedTuple):
    """What stands before the numbers of a ``.npy`` file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_header(file: BinaryIO, size: int, where: str | Path) -> NpyHeader:
    """The header of an open ``.npy`` file.

    Args:
        file: at its beginning.
        size: bytes of the file.
        where: its name, for error messages.

    Raises:
        ValueError: no ``.npy`` file, one that is shorter than its header says, pickled objects, or foreign byte order.
    """
    try:
        version = npy_format.read_magic(file)
        reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, _, dtype = reader(file)
        start = file.tell()
    except Exception as error:  # numpy reads the header as a text of Python, which fails in many ways
        raise ValueError(f"{where}: not a .npy file ({reason(error)})") from None
    if dtype.hasobject:
        raise ValueError(
            f"{where}: holds pickled Python objects, expected plain numbers; save it again as a numeric array"
        )
    if not dtype.isnative:
        raise ValueError(f"{where}: dtype {dtype.str} is in foreign byte order; save it again on this machine")
    if len(shape) > 32 or not all(0 <= length < 2**62 for length in shape):
        raise ValueError(f"{where}: shape {shown(shape)}, expected up to 32 lengths of 0 or more")
    wanted = start + math.prod(shape) * dtype.itemsize  # in integers of Python, which have no end
    needs = f"{size} bytes where shape {shown(shape)} {short(str(dtype))} needs {shown(wanted)}"
    if size < wanted:
        raise ValueError(f"{where}: truncated, {needs}")
    if size > wanted:  # several arrays saved into one file, of which only the first would be seen
        raise ValueError(f"{where}: {needs}; is there a second array in it?")
    return NpyHeader(shape, dtype)


def array_of(data: bytes, where: str) -> Array:
    """The array that the bytes of a ``.npy`` file are; raises as :func:`read_header`."""
    file = BytesIO(data)
    read_header(file, len(data), where)
    file.seek(0)
    try:
        array: Array = npy_format.read_array(file, allow_pickle=False)
    except Exception as error:
        raise ValueError(f"{where}: not a .npy file ({reason(error)})") from None
    if array.dtype.kind == "U" and array.size and int(array.reshape(-1).view(np.uint32).max()) > 0x10FFFF:
        raise ValueError(f"{where}: holds a character that there is not")
    return array


def save_array(path: str | Path, array: Array) -> None:
    """Write a ``.npy`` file beside its place and rename it, so that nobody ever sees half a file."""
    with written_beside(path) as beside, beside.open("w+b") as file:  # with "wb" numpy's errors do not say why
        np.save(file, array, allow_pickle=False)


@contextmanager
def array_rows(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> Iterator[Callable[[int, Array], object]]:
    """Write a ``.npy`` file row by row, in any order; yields the function that takes a row's place and its numbers."""
    with written_beside(path) as beside, beside.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start, step = file.tell(), int(np.prod(shape[1:])) * dtype.itemsize
        file.truncate(start + shape[0] * step)

        def put(row: int, values: Array) -> None:
            file.seek(start + row * step)
            file.write(np.ascontiguousarray(values, dtype).tobytes())

        yield put


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


def _accepts(dtypes: Sequence[str], dtype: np.dtype[Any]) -> bool:
    kinds = {"float": "f", "int": "iu"}
    return any(dtype.kind in kinds[name] if name in kinds else dtype == np.dtype(name) for name in dtypes)
