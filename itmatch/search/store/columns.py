"""What a shard holds: its columns, one ``.npy`` file each, and the checks of what such files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itmatch.formats.arrays import Array, open_array
from itmatch.formats.files import existing_file
from itmatch.search.store.manifest import ShardEntry, Side

Per = Literal["row", "fragment", "any"]


@dataclass(frozen=True)
class Column:
    """One kind of data of a row.

    Args:
        dtype: of the numbers.
        width: numbers of one entry: None = one, without a dimension; 0 = any number.
        per: entries: one of each row, one of each fragment, or any number of each row; then ``NAME_offsets.npy`` tells.
        side: the side that has it; None = both.
        optional: whether a shard may lack it.
    """

    dtype: str
    width: int | None
    per: Per
    side: Side | None = None
    optional: bool = True


COLUMNS: dict[str, Column] = {
    "serial": Column("int64", None, "row", optional=False),
    "features": Column("float16", 0, "any", optional=False),
    "ids": Column("uint8", None, "any", optional=False),
    "pooled": Column("float16", 0, "row"),
    "is_relation": Column("bool", None, "fragment"),
    "texts": Column("uint8", None, "any", side="captions", optional=False),
    "image": Column("int64", None, "row", side="captions", optional=False),
    "pictures": Column("uint8", None, "any", side="images"),
    "boxes": Column("float32", 4, "any", side="images"),
    "labels": Column("int64", None, "any", side="images"),
    "region_scores": Column("float32", None, "any", side="images"),
    "relations": Column("int64", 3, "any", side="images"),
    "relation_scores": Column("float32", None, "any", side="images"),
    "regions": Column("float16", 0, "any", side="images"),
}


def columns_of(side: Side) -> dict[str, Column]:
    """The columns that a side has or may have."""
    return {name: column for name, column in COLUMNS.items() if column.side in (None, side)}


def file_names(name: str) -> tuple[str, ...]:
    """The files of a column."""
    return (f"{name}.npy", f"{name}_offsets.npy") if COLUMNS[name].per == "any" else (f"{name}.npy",)


@dataclass(frozen=True, eq=False)
class Shard:
    """Some rows of a side, as memory maps.

    Args:
        folder: where they lie.
        rows: how many there are.
        values: the columns that there are.
        offsets: (rows + 1,) where the entries of each row begin, of columns with any number of entries a row.
    """

    folder: Path
    rows: int
    values: dict[str, Array]
    offsets: dict[str, Array]

    def entries(self, name: str, row: int) -> Array | None:
        """What a column says of a row; None where the shard lacks the column."""
        if name not in self.values:
            return None
        if COLUMNS[name].per == "row":
            found: Array = self.values[name][row]
            return found
        offsets = self.offsets["features" if COLUMNS[name].per == "fragment" else name]
        part: Array = self.values[name][int(offsets[row]) : int(offsets[row + 1])]
        return part

    def text(self, name: str, row: int) -> str | None:
        """A text of a row; None where the shard lacks the column."""
        raw = self.entries(name, row)
        return None if raw is None else _decoded(raw.tobytes(), self.folder / f"{name}.npy")

    def chosen(self, rows: Array) -> dict[str, Any]:
        """All that is known of some rows, by column: as :meth:`ShardWriter.add` takes it."""
        found: dict[str, Any] = {}
        for name, column in COLUMNS.items():
            if name not in self.values:
                continue
            if column.per == "row":
                found[name] = self.values[name][rows]
                continue
            offsets = self.offsets["features" if column.per == "fragment" else name]
            entries = self.values[name][runs(offsets, rows)]
            found[name] = (entries, (offsets[rows + 1] - offsets[rows]).tolist()) if column.per == "any" else entries
        return found

    def texts(self, name: str) -> list[str]:
        """The texts of all rows."""
        path, whole = self.folder / f"{name}.npy", self.values[name].tobytes()
        places: list[int] = self.offsets[name].tolist()
        return [_decoded(whole[a:b], path) for a, b in pairwise(places)]


def open_shard(index: Path, entry: ShardEntry, side: Side) -> Shard:
    """The columns of a shard, checked: sizes, kinds, offsets.

    Raises:
        FileNotFoundError: a file of it is not there.
        ValueError: a file is damaged, or is not what the manifest says.
    """
    known = columns_of(side)
    folder = index / entry.folder
    expected = {file for name in known for file in file_names(name)}
    for file in entry.bytes:
        if file not in expected:
            raise ValueError(f"{folder}: {file!r} is no file of a shard of {side}")
    values: dict[str, Array] = {}
    offsets: dict[str, Array] = {}
    for name, column in known.items():
        if f"{name}.npy" not in entry.bytes:
            if not column.optional:
                raise ValueError(f"{folder}: the manifest names no {name}.npy")
            continue
        values[name] = _open(index, folder, f"{name}.npy", entry, [column.dtype], 1 if column.width is None else 2)
        if column.per == "any":
            offsets[name] = np.array(_open(index, folder, f"{name}_offsets.npy", entry, ["int64"], 1))
    shard = Shard(folder, entry.rows, values, offsets)
    for name in values:
        _check(shard, name)
    return shard


def _open(index: Path, folder: Path, file: str, entry: ShardEntry, dtypes: Sequence[str], ndim: int) -> Array:
    path = existing_file(folder / file)
    if not path.resolve().is_relative_to(index.resolve()):
        raise ValueError(f"{path}: a link out of the index")
    if path.stat().st_size != entry.bytes.get(file):
        raise ValueError(f"{path}: {path.stat().st_size} bytes, the manifest says {entry.bytes.get(file)}")
    return open_array(path, ndim=ndim, dtypes=dtypes)


def _check(shard: Shard, name: str) -> None:
    """Raise unless a column has as many entries as its shard needs."""
    column, values, path = COLUMNS[name], shard.values[name], shard.folder / f"{name}.npy"
    if column.width and values.shape[1] != column.width:
        raise ValueError(f"{path}: shape {values.shape}, expected (any, {column.width})")
    if column.per == "any":
        offsets, where = shard.offsets[name], shard.folder / f"{name}_offsets.npy"
        if len(offsets) != shard.rows + 1:
            raise ValueError(f"{where}: {len(offsets)} offsets, expected {shard.rows + 1}")
        least = 1 if name == "features" else 0
        if offsets[0] != 0 or offsets[-1] != len(values) or bool((np.diff(offsets) < least).any()):
            raise ValueError(f"{where}: offsets do not rise from 0 to {len(values)}")
    elif len(values) != (shard.rows if column.per == "row" else len(shard.values["features"])):
        raise ValueError(f"{path}: {len(values)} entries, which does not fit {shard.rows} rows")
    if name == "is_relation" and values.size and int(values.view(np.uint8).max()) > 1:
        raise ValueError(f"{path}: holds truth values that are neither 0 nor 1")
    if name == "serial" and values.size and (int(values[0]) < 0 or bool((np.diff(values) <= 0).any())):
        raise ValueError(f"{path}: numbers of rows do not rise")


def _decoded(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: holds a text that is not UTF-8") from None


def encoded(texts: Sequence[str]) -> tuple[Array, Array]:
    """Texts as their bytes, one after the other, and where each begins."""
    raw = [text.encode("utf-8") for text in texts]
    return np.frombuffer(b"".join(raw), np.uint8), offsets_of([len(text) for text in raw])


def runs(offsets: Array, rows: Array) -> slice | Array:
    """Where the entries of some rows lie: a slice where the rows are consecutive ones."""
    starts, ends = offsets[rows], offsets[rows + 1]
    if len(rows) == 0 or bool((np.diff(rows) == 1).all()):
        return slice(int(starts[0]), int(ends[-1])) if len(rows) else slice(0, 0)
    lengths = ends - starts
    places: Array = np.arange(int(lengths.sum())) + np.repeat(starts - offsets_of(lengths)[:-1], lengths)
    return places


def offsets_of(lengths: Sequence[int] | Any) -> Array:
    """(N + 1,) where each of N runs begins, and where the last one ends."""
    offsets: Array = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
