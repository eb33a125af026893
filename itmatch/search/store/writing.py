"""Writing an index: one writer at a time, new shards beside the old ones, then the manifest."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.arrays import Array, save_array
from itmatch.search.store.columns import COLUMNS, encoded, file_names, offsets_of
from itmatch.search.store.manifest import LOCK, NAME, Manifest, ShardEntry, Side, is_entry, read_manifest

SHARD_BYTES = 128 << 20  # features of a shard; so much is held in memory while it grows
_LARGE = ("features", "regions")  # the columns that count


@contextmanager
def only_writer(index: Path) -> Iterator[None]:
    """Keep other writers out of an index; the end of the process ends it, too. Readers are not kept out.

    Raises:
        BlockingIOError: somebody else is writing.
    """
    index.mkdir(parents=True, exist_ok=True)
    if os.name != "posix":  # nothing keeps them out there
        yield
        return
    import fcntl

    file = os.open(index / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{index}: another process or thread is writing this index; wait for it") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # network file systems without locks
                raise
        yield
    finally:
        os.close(file)


def clean(index: Path, manifest: Manifest | None) -> None:
    """Remove what unfinished writers left and what the manifest names no more; nothing that is not an index's own."""
    keep = set() if manifest is None else manifest.entries()
    for path in index.iterdir():
        if is_entry(path.name) and path.name not in keep:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


@contextmanager
def commit(index: Path) -> Iterator[Commit]:
    """The one writer of an index, and what it writes: whole after :meth:`Commit.done`, as before without it."""
    with only_writer(index):
        before = read_manifest(index) if (index / NAME).is_file() else None
        clean(index, before)
        now = Commit(index, before)
        try:
            yield now
        finally:
            clean(index, now.manifest)


class Commit:
    """A change of an index on its way.

    Args:
        index: the folder.
        manifest: as it is; None = there is no index yet.
    """

    def __init__(self, index: Path, manifest: Manifest | None) -> None:
        self.index, self.manifest = index, manifest
        self.number = 1 if manifest is None else manifest.commit + 1
        self._shards = 0

    def folder(self, kind: str) -> str:
        """The name of the folder of a new model or engine."""
        return f"{kind}-{self.number:08d}"

    def shard_folder(self, side: Side) -> str:
        """The name of the folder of a new shard."""
        self._shards += 1
        return f"{side}-{self.number:08d}-{self._shards:06d}"

    def write_deleted(self, serials: Mapping[str, Array]) -> str:
        """Write the numbers of what is deleted; returns the name of the file."""
        name = f"deleted-{self.number:08d}.npy"
        rows = [[place, int(serial)] for place, side in enumerate(("images", "captions")) for serial in serials[side]]
        save_array(self.index / name, np.array(rows, np.int64).reshape(-1, 2))
        return name

    def done(self, manifest: Manifest) -> None:
        """Make the change the state of the index."""
        _to_disk(self.index)  # the names of the new files, before the manifest tells of them
        manifest.write(self.index)
        self.manifest = manifest
        _to_disk(self.index)


class ShardWriter:
    """Gathers rows of a side and writes them as shards, each when it is large enough.

    Args:
        commit: that the shards are for.
        side: images or captions.
        next_serial: number of the first row.
    """

    def __init__(self, commit: Commit, side: Side, next_serial: int) -> None:
        self.commit, self.side, self.next_serial = commit, side, next_serial
        self.written: list[ShardEntry] = []
        self._clear()

    def _clear(self) -> None:
        self._parts: dict[str, list[Any]] = {}
        self._lengths: dict[str, list[int]] = {}
        self._size = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Add some rows.

        Args:
            columns: what is known of them, by column. Entries of each row as one array (one a row), as a pair of all
                entries and their numbers by row, or as a list of texts. Their serials, if they have some already.
        """
        if self._parts and self._parts.keys() != {"serial", *columns}:  # other things are known of these rows
            self.flush()
        rows = len(columns["features"][1])
        serial = columns.get("serial", np.arange(self.next_serial, self.next_serial + rows))
        self.next_serial = int(serial[-1]) + 1 if rows else self.next_serial
        for name, value in ({"serial": serial} | dict(columns)).items():
            if COLUMNS[name].per != "any":
                self._parts.setdefault(name, []).append(value)
            elif isinstance(value, list):
                self._parts.setdefault(name, []).extend(value)
            else:
                self._parts.setdefault(name, []).append(value[0])
                self._lengths.setdefault(name, []).extend(value[1])
        self._size += sum(columns[name][0].nbytes for name in _LARGE if name in columns)
        if self._size >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        if not self._parts:
            return
        name = self.commit.shard_folder(self.side)
        folder = self.commit.index / name
        folder.mkdir()
        sizes: dict[str, int] = {}
        rows = sum(len(part) for part in self._parts["serial"])
        for column in list(self._parts):
            for file, array in zip(file_names(column), self._arrays(column), strict=True):
                save_array(folder / file, array)
                sizes[file] = (folder / file).stat().st_size
        _to_disk(folder)
        self.written.append(ShardEntry(name, rows, sizes))
        self._clear()

    def _arrays(self, name: str) -> list[Array]:
        parts = self._parts.pop(name)
        if COLUMNS[name].per == "any" and name not in self._lengths:
            return list(encoded(parts))
        whole = np.concatenate(parts).astype(COLUMNS[name].dtype, copy=False)
        return [whole] if COLUMNS[name].per != "any" else [whole, offsets_of(self._lengths[name])]


def _to_disk(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can."""
    with suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
