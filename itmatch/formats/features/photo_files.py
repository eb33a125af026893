"""A folder with one .npz or .npy file per photo, with any number of regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.arrays import Array, open_array, read_header
from itmatch.formats.features.base import (
    BOXES,
    COUNTS,
    FEATURES,
    HEIGHTS,
    LABELS,
    MOST_BYTES,
    WIDTHS,
    Grid,
    RegionReader,
    RegionRecord,
    first_of,
    record_of,
    regions_of,
    stem_of,
)
from itmatch.formats.files import existing_file
from itmatch.formats.messages import shown_keys
from itmatch.formats.npz import npz_header, npz_names, read_npz
from itmatch.formats.pickles import holds_objects, parse_pickle, read_pickled_npy

_WANTED = (*FEATURES, *BOXES, *COUNTS, *WIDTHS, *HEIGHTS, *LABELS)


class PhotoFiles(RegionReader):
    """One file per photo.

    ``.npz`` with arrays of the usual names (``x`` or ``features``, ``bbox``, ``image_w``, ``image_h`` ...); ``.npy`` of
    (R, F) numbers, of a vector or a grid, with ``NAME_info.npy`` beside it where mmf wrote it; ``.npy`` of records with
    such fields; or ``.npy`` of a pickled dict, as ViLBERT's scripts write, which is read without running it. Other
    arrays of an archive are not opened.

    Args:
        paths: the files, or a folder with them.
        grid: which of the sizes of a grid is that of the features, where it cannot be seen.

    Raises:
        ValueError: no files, or one without features.
    """

    def __init__(self, paths: Sequence[Path] | Path, grid: Grid | None = None) -> None:
        self._paths = files_of(paths) if isinstance(paths, Path) else list(paths)
        self._grid: Grid | None = grid
        self.names = [stem_of(path) for path in self._paths]
        self.counts = [self._count(path) for path in self._paths]

    def read(self, index: int) -> RegionRecord:
        """One file."""
        return read_photo_file(self._paths[index], self._grid)

    def _count(self, path: Path) -> int:
        """Regions of a photo, without reading its features where that can be."""
        if path.suffix == ".npz":
            names = npz_names(path)
            key = next((name for name in FEATURES if name in names), None)
            shape = () if key is None else npz_header(path, key).shape
            plain = len(shape) == 2 and not any(name in names for name in (*BOXES, *COUNTS))  # else it may be turned
        elif holds_objects(path):
            plain = False
        else:
            with path.open("rb") as file:
                shape, kind = read_header(file, path.stat().st_size, path)
            plain = len(shape) == 2 and not kind.names
        return shape[0] if plain else len(read_photo_file(path, self._grid).features)


def files_of(folder: Path) -> list[Path]:
    """The files of features in a folder, by name; companions of others are not among them."""
    names = sorted(path for path in folder.iterdir() if path.suffix in (".npz", ".npy"))
    there = {path.name for path in names}
    files = [
        path for path in names if not (path.stem.endswith("_info") and f"{path.stem[: -len('_info')]}.npy" in there)
    ]
    if not files:
        raise ValueError(f"{folder}: no .npz or .npy file in it")
    return files


def read_photo_file(path: Path, grid: Grid | None = None) -> RegionRecord:
    """The regions of the photo that a file holds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no file of features, or its arrays do not agree.
    """
    path, name = existing_file(path), stem_of(path)
    if path.suffix == ".npz":
        there = npz_names(path)
        if not any(key in there for key in FEATURES):
            raise ValueError(
                f"{path}: no features; it holds {shown_keys(there)}, expected one of {', '.join(FEATURES)}"
            )
        return record_of(name, read_npz(path, [key for key in _WANTED if key in there]), str(path), grid)
    if holds_objects(path):
        return record_of(name, _dict(read_pickled_npy(path), path), str(path), grid)
    array = open_array(path)
    if array.dtype.names:
        content = {key: _once(array[key], key) for key in array.dtype.names if key in _WANTED}
        return record_of(name, {key: part for key, part in content.items() if part is not None}, str(path), grid)
    if array.nbytes > MOST_BYTES:
        raise ValueError(f"{path}: {array.nbytes} bytes, expected the regions of one photo, up to {MOST_BYTES}")
    info = path.with_name(f"{path.stem}_info.npy")
    if not info.exists():
        return RegionRecord(name, regions_of(array, str(path), grid))
    return record_of(name, {**_dict(read_pickled_npy(info), info), "features": array}, str(info), grid)


def _once(values: Array, key: str) -> Array | None:
    """A field of the records of a photo's regions; what is of the photo and stands in every record, once."""
    if key not in (*WIDTHS, *HEIGHTS, *COUNTS):
        return values
    different: Array = np.unique(values)
    return different if len(different) else None


def _dict(content: Any, path: Path) -> dict[str, Any]:
    """The dict of a file, in which mmf hides another one."""
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected a dict")
    inner = content.get("info")
    merged = {**(inner if isinstance(inner, dict) else {}), **content}
    if isinstance(first_of(merged, FEATURES), bytes):  # pickled again
        merged["features"] = parse_pickle(merged["features"], path)
    return {str(key): np.asarray(value) if isinstance(value, list) else value for key, value in merged.items()}
