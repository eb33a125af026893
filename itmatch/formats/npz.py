"""Archives of arrays: written whole or not at all; what a damaged or hostile one would unpack to is seen before."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from itmatch.formats.arrays import Array, NpyHeader, array_of, read_header
from itmatch.formats.files import existing_file, written_beside
from itmatch.formats.messages import reason, shown_keys

_UNPACKED = 256 << 20  # bytes that the arrays of an archive may always have; beyond that a share of its own size
_RATIO = 20
_HEADER = 1 << 16  # bytes that a header of an array may take


def read_npz(path: str | Path, names: Sequence[str]) -> dict[str, Array]:
    """Some arrays of a ``.npz`` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such file of numpy, a damaged one, an array that is missing, or more than memory is for.
    """
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            wanted = [found[name] for name in names if name in found]
            unpacked = sum(member.file_size for member in wanted)
            fits = unpacked <= max(_UNPACKED, _RATIO * path.stat().st_size)
            content = [archive.read(member) for member in wanted] if fits else []  # checks the sums of the members
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path}: no .npz file of plain numbers ({reason(error)})") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path}: no {missing[0]!r} in it; it holds {shown_keys(found)}, expected {', '.join(names)}")
    if not fits:
        raise ValueError(
            f"{path}: would unpack to {unpacked} bytes, expected at most {_UNPACKED} or {_RATIO} times its own"
        )
    return {name: array_of(data, f"{path}: {name}") for name, data in zip(names, content, strict=True)}


def npz_names(path: str | Path) -> list[str]:
    """The names of the arrays of a ``.npz`` file; raises as :func:`read_npz`."""
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception as error:
        raise ValueError(f"{path}: no .npz file of plain numbers ({reason(error)})") from None


def npz_header(path: str | Path, name: str) -> NpyHeader:
    """Shape and dtype of an array of a ``.npz`` file, of which nothing else is read; raises as :func:`read_npz`."""
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            size = archive.getinfo(f"{name}.npy").file_size
            return read_header(BytesIO(file.read(_HEADER)), size, f"{path}: {name}")
    except Exception as error:
        raise (
            error
            if isinstance(error, ValueError) and str(error).startswith(f"{path}")
            else ValueError(f"{path}: no .npz file of plain numbers ({reason(error)})")
        ) from None


def write_npz(path: Path, arrays: Mapping[str, Array], *, compressed: bool = False) -> None:
    """Write arrays to a ``.npz`` file, whole or not at all.

    Raises:
        OSError: it cannot be written; the disk is full, say.
    """
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    # not by np.savez: that of numpy 1.26 leaves the archive open when the disk is full
    with written_beside(path) as beside, zipfile.ZipFile(beside, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
