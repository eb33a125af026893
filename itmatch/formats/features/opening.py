"""Which layout files are of, and opening them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itmatch.formats.arrays import field_names, open_array
from itmatch.formats.features.base import COUNTS, Grid, RegionReader, RegionRecord, record_of, regions_of
from itmatch.formats.features.h5 import H5Features
from itmatch.formats.features.photo_files import PhotoFiles
from itmatch.formats.features.tsv import FIELDS, BottomUpTsv
from itmatch.formats.features.vinvl import VinvlTsv
from itmatch.formats.messages import short

_REFUSED = {
    ".lmdb": "an LMDB database, whose entries are pickled; write one .npz a photo (x, bbox, image_w, image_h)",
    ".mdb": "an LMDB database, whose entries are pickled; write one .npz a photo (x, bbox, image_w, image_h)",
    ".pkl": "a pickle; write one .npz a photo (x, bbox, image_w, image_h)",
    ".pt": "a file of torch; write one .npy (regions, numbers) a photo",
    ".pth": "a file of torch; write one .npy (regions, numbers) a photo",
    ".mat": "a file of MATLAB; write (images, regions, numbers) as .npy",
    ".zip": "an archive; unpack it first",
    ".gz": "packed; unpack it first",
    ".tar": "an archive; unpack it first",
}


class ArrayFile(RegionReader):
    """All photos in one ``.npy`` file: (N, R, F), (N, F), grids, or a record per photo with fields of the usual names.

    Args:
        path: the file.
        names: what the photos are called; None = "0", "1" ...
        grid: which of the sizes of a grid is that of the features, where it cannot be seen.
    """

    def __init__(self, path: Path, names: Sequence[str] | None = None, grid: Grid | None = None) -> None:
        self._path, self._grid = path, grid
        self._fields = field_names(path)
        self._array = open_array(path, dtypes=None if self._fields else ("float",))
        self.names = [str(i) for i in range(len(self._array))] if names is None else list(names)
        if self._array.ndim < (1 if self._fields else 2) or len(self.names) != len(self._array):
            raise ValueError(f"{path}: shape {self._array.shape}, expected a row for each of {len(self.names)} photos")
        self.counts = [len(self.read(0).features)] * len(self.names) if self.names else []
        if any(name in COUNTS for name in self._fields):  # then not all are real
            self.counts = [len(self.read(index).features) for index in range(len(self.names))]

    def read(self, index: int) -> RegionRecord:
        """One row."""
        name, row, where = self.names[index], self._array[index], f"{self._path}: row {index}"
        if self._fields:
            return record_of(name, {field: row[field] for field in self._fields}, where, self._grid)
        return RegionRecord(name, regions_of(np.asarray(row), where, self._grid))


def open_regions(
    paths: Sequence[Path],
    *,
    grid: Grid | None = None,
    fields: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> RegionReader:
    """The reader of some files, which are of one layout, or of a folder.

    Args:
        paths: one path, or several ``.tsv`` files.
        grid: which of the sizes of a grid is that of the features, where it cannot be seen.
        fields: names of the fields of a ``.tsv`` file that are others than usual.
        names: what the photos of an array are called, where the file does not say it.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a layout that is not read; says what to do.
    """
    layout = layout_of(paths[0])
    if names is not None and layout not in ("HDF5", "one array"):
        raise ValueError(f"{paths[0]}: {layout}, which names its photos itself; names of photos (ids) go with arrays")
    if len(paths) > 1 and layout != "bottom-up-attention tsv":
        raise ValueError(f"{paths[1]}: a second source, expected one; only several .tsv files are read as one")
    if layout == "bottom-up-attention tsv":
        return BottomUpTsv(paths, fields)
    if layout == "VinVL tsv":
        return VinvlTsv(paths[0])
    if layout == "HDF5":
        return H5Features(paths[0], grid, names)
    if layout == "one array":
        return ArrayFile(paths[0], names, grid)
    return PhotoFiles(paths[0], grid)


def how_to_convert(path: Path) -> str:
    """What to do with files of features that are no folder of precomputed features, in half a sentence."""
    try:
        layout = layout_of(path)
    except ValueError as error:
        return f"it is not read as {str(error).partition(': ')[2]}"
    if (
        path.is_dir()
        and layout == "one file per photo"
        and not any(p.suffix in (".npz", ".npy") for p in path.iterdir())
    ):
        return "no files of features in this folder"
    return f"`itmatch data convert {path} --karpathy JSON --out FOLDER` makes a folder of features of it ({layout})"


def layout_of(path: Path) -> str:
    """What a file or folder of features is, told by its name and its first line.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: it is none of those that are read.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    refused = _REFUSED.get(path.suffix.lower())
    if refused or (path.is_dir() and (path / "data.mdb").exists()):
        raise ValueError(f"{path}: {refused or _REFUSED['.mdb']}")
    if path.is_dir():
        return "VinVL tsv" if (path / "features.tsv").exists() else "one file per photo"
    if path.suffix.lower() in (".h5", ".hdf5"):
        return "HDF5"
    if path.suffix == ".npy":
        return "one array"
    if ".tsv" not in path.suffixes:
        raise ValueError(
            f"{path}: a {short(path.suffix) or 'file without an ending'}, expected .tsv, .h5, .hdf5, .npy, or a folder "
            "of .npz or .npy files"
        )
    with path.open("rb") as file:
        fields = len(file.readline(1 << 30).split(b"\t"))
    if fields in FIELDS:
        return "bottom-up-attention tsv"
    if fields in (2, 3):
        return "VinVL tsv"
    raise ValueError(f"{path}:1: {fields} fields between tabs, expected 2, 3 or {', '.join(map(str, FIELDS))}")
