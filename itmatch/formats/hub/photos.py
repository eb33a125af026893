"""Folders of Hugging Face ``datasets`` (.arrow, .parquet) with photos: what is where, and the bytes of one photo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.messages import reason, shown, shown_keys
from itmatch.formats.records import CAPTION_KEYS, FILE_KEYS, file_of_record, texts_of_record

_SPLITS = {"validation": "dev", "val": "dev", "valid": "dev", "restval": "train"}
_ROWS = 64  # a batch


@dataclass(frozen=True)
class HubPhoto:
    """A row of a file of ``datasets``, without the photo itself.

    Args:
        file: the file.
        row: in the file.
        split: what the column ``split`` says, or else what the file or its folder is called.
        name: of the photo's file.
        captions: a text or several; none where the row has none.
        start: where the photo's bytes begin in an .arrow file; None in a .parquet file.
        size: how many there are.
    """

    file: Path
    row: int
    split: str
    name: str
    captions: tuple[str, ...]
    start: int | None
    size: int

    def read(self) -> bytes:
        """The photo's bytes; raises as :func:`parquet_photo`."""
        if self.start is None:
            return parquet_photo(self.file, self.row)
        with self.file.open("rb") as opened:
            opened.seek(self.start)
            return opened.read(self.size)


def hub_files(path: Path) -> list[Path]:
    """The files of a data set of ``datasets`` in a folder, saved by ``save_to_disk`` or downloaded."""
    found = [file for ending in ("arrow", "parquet") for file in path.rglob(f"*.{ending}")]
    return sorted(file for file in found if not file.name.startswith("cache-"))


def hub_photos(file: Path, *, described: bool) -> Iterator[HubPhoto]:
    """The rows of a file, of which the photos are not read.

    Args:
        file: of :func:`hub_files`.
        described: whether a row without captions is an error.

    Raises:
        ImportError: pyarrow is missing.
        ValueError: a damaged file, or a row without a photo or a name for it.
    """
    rows = _parquet_rows(file) if file.suffix == ".parquet" else _arrow_rows(file)
    for number, (row, start, size) in enumerate(rows):
        where, there = f"{file}: row {number}", f"columns there: {shown_keys(row)}"
        if size == 0:
            raise ValueError(f"{where}: no photo under 'image'; {there}")
        split, name = _split_of(row, file), _name(row, where)
        captions = tuple(" ".join(text.split()) for text in texts_of_record(row) or ())
        if described and not captions:
            raise ValueError(f"{where}: no text under any of {', '.join(CAPTION_KEYS)}; {there}")
        yield HubPhoto(file, number, split, name, captions, start, size)


_Row = tuple[dict[str, Any], "int | None", int]  # without the photo; where its bytes are, and how many, 0 = none


def _arrow_rows(file: Path) -> Iterator[_Row]:
    pyarrow, ipc, _ = _pyarrow()
    with _named(file), pyarrow.memory_map(str(file)) as source:
        base = source.read_buffer(1).address
        source.seek(0)
        for batch in ipc.open_stream(source):
            batch.validate(full=True)  # else values may lie anywhere in the memory
            rows = batch.select([name for name in batch.schema.names if name != "image"]).to_pylist()
            there = "image" in batch.schema.names
            photos = batch.column("image") if there else pyarrow.nulls(len(batch))
            names: list[Any] = [None] * len(batch)
            if pyarrow.types.is_struct(photos.type):
                parts = {photos.type.field(place).name: part for place, part in enumerate(photos.flatten())}
                names = parts["path"].to_pylist() if "path" in parts else names
                photos = parts.get("bytes", pyarrow.nulls(len(batch)))
            places = _places(photos)
            for row, (name, (address, size)) in enumerate(zip(names, places, strict=True)):
                start = address - base if size else 0
                if size < 0 or not 0 <= start <= source.size() - size:
                    raise ValueError("a photo is not in it, or its columns are compressed")
                yield (rows[row] if rows else {}) | ({"image": {"path": name}} if there else {}), start, size


def _places(column: Any) -> list[tuple[int, int]]:
    """Address and size of each value of a column of bytes; of another one sizes of 0."""
    dtype = {"binary": np.int32, "large_binary": np.int64}.get(str(column.type))
    if dtype is None:
        return [(0, 0)] * len(column)
    _, offsets, content = column.buffers()
    found = np.frombuffer(offsets, dtype)[column.offset : column.offset + len(column) + 1].tolist()
    begin = 0 if content is None else content.address
    return [(begin + start, end - start) for start, end in pairwise(found)]


def _parquet_rows(file: Path) -> Iterator[_Row]:
    _, _, parquet = _pyarrow()
    with _named(file), parquet.ParquetFile(file) as opened:
        leaves = [opened.schema.column(place) for place in range(len(opened.schema))]
        photos = [leaf for leaf in leaves if leaf.path in ("image", "image.bytes")]
        size = 1 if photos and photos[0].physical_type == "BYTE_ARRAY" and photos[0].logical_type.type == "NONE" else 0
        wanted = [leaf.path for leaf in leaves if leaf not in photos]
        empty = {"image": None} if photos else {}
        for batch in opened.iter_batches(batch_size=_ROWS, columns=wanted):
            for row in batch.to_pylist():
                yield empty | row, None, size  # how many bytes is not known before they are unpacked


def parquet_photo(file: Path, row: int) -> bytes:
    """The bytes of the photo in a row of a .parquet file. A group of rows is unpacked at a time, and the last is kept.

    Raises:
        ValueError: there are none, or a damaged file.
    """
    start = 0
    for group, count in enumerate(_groups(file)):
        if row < start + count:
            held, place = _photos_of_group(file, group), row - start
            content = held[place] if place < len(held) else None
            if not isinstance(content, bytes):
                raise ValueError(f"{file}: row {row}: no photo under 'image'")
            return content
        start += count
    raise ValueError(f"{file}: no row {row}, there are {start}")


@lru_cache(maxsize=1)
def _groups(file: Path) -> list[int]:
    """Rows of each group."""
    _, _, parquet = _pyarrow()
    with _named(file), parquet.ParquetFile(file) as opened:
        return [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]


@lru_cache(maxsize=1)
def _photos_of_group(file: Path, group: int) -> list[Any]:
    _, _, parquet = _pyarrow()
    with _named(file), parquet.ParquetFile(file) as opened:
        found = opened.read_row_group(group, columns=["image"]).column("image").to_pylist()
    return [one.get("bytes") if isinstance(one, dict) else one for one in found]


def _pyarrow() -> tuple[Any, Any, Any]:
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise ImportError('reading folders of datasets needs pyarrow: pip install "itmatch[arrow]"') from error
    return pyarrow, ipc, parquet


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of pyarrow as one line that names the file."""
    try:
        yield
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{file}: no file of datasets that can be read ({reason(error)})") from None


def _split_of(row: Mapping[str, Any], file: Path) -> str:
    given = row.get("split")
    name = given if isinstance(given, str) else file.stem.partition("-")[0]
    name = file.parent.name if name in ("data", "") else name  # data-00000-of-00002.arrow
    name = _SPLITS.get(name, name)
    if not name.replace("_", "").isalnum():
        raise ValueError(f"{file}: a split called {shown(name)}, expected letters and digits")
    return name


def _name(row: Mapping[str, Any], where: str) -> str:
    image = row.get("image")
    given = file_of_record(row) or (image.get("path") if isinstance(image, dict) else None)
    name = given if isinstance(given, str) else ""
    if not name or name != Path(name).name or name.startswith(".") or len(name) > 200 or not name.isprintable():
        raise ValueError(
            f"{where}: photo {shown(given)}, expected the name of a file under one of {', '.join(FILE_KEYS)}"
        )
    return name
