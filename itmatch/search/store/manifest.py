"""The manifest of an index: which files belong to it. What it does not name is not there."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from itmatch._version import __version__
from itmatch.formats.files import read_json, user_path, write_text
from itmatch.formats.messages import shown
from itmatch.formats.nearby import near

Side = Literal["images", "captions"]
SIDES: tuple[Side, Side] = ("images", "captions")
VERSION = 1  # of the layout on disk
NAME = "index.json"
LOCK = "writer.lock"
_FORMAT = "itmatch-index"
_ENTRY = re.compile(r"(?:(?:images|captions)-[0-9]{8}-[0-9]{6}|(?:model|engine)-[0-9]{8}|deleted-[0-9]{8}\.npy)")
_MOST_ROWS = 1 << 40


@dataclass(frozen=True)
class ShardEntry:
    """A folder of the index that holds some rows of a side.

    Args:
        folder: its name.
        rows: images or captions in it.
        bytes: the size of each of its files, by the file's name.
    """

    folder: str
    rows: int
    bytes: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """What an index is made of at a commit.

    Args:
        commit: number of the commit; every one is larger than the one before.
        model: folder of the model.
        fingerprint: of the model, see :func:`~itmatch.models.fingerprint`.
        next_serial: the number that the next row of each side gets; numbers are never used again.
        images: shards of the images, in their order.
        captions: shards of the captions.
        deleted: the file with the numbers of what was deleted, or None.
        engine: how the first stage was built, as plain data, or None.
        engine_folder: its folder, or None.
        names: what the labels and the predicates of the images are called, where that is known.
    """

    commit: int
    model: str
    fingerprint: str
    next_serial: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))
    images: tuple[ShardEntry, ...] = ()
    captions: tuple[ShardEntry, ...] = ()
    deleted: str | None = None
    engine: dict[str, Any] | None = None
    engine_folder: str | None = None
    names: dict[str, list[str]] = field(default_factory=dict)

    def shards(self, side: Side) -> tuple[ShardEntry, ...]:
        """The shards of a side."""
        return self.images if side == "images" else self.captions

    def entries(self) -> set[str]:
        """The names of all files and folders that belong to the index, the manifest aside."""
        named = {self.model, self.deleted, self.engine_folder} - {None}
        return {str(name) for name in named} | {shard.folder for shard in (*self.images, *self.captions)}

    def write(self, folder: Path) -> None:
        """Replace the manifest of an index by this one: the moment of the commit."""
        content = {"format": _FORMAT, "version": VERSION, "itmatch_version": __version__, **asdict(self)}
        write_text(folder / NAME, json.dumps(content, indent=1, ensure_ascii=False))


def is_entry(name: str) -> bool:
    """Whether a file or folder of this name is one that an index makes."""
    return _ENTRY.fullmatch(name) is not None


def is_own(name: str) -> bool:
    """Whether a file or folder of this name may lie in a folder in which an index was begun."""
    return is_entry(name) or name in (NAME, LOCK) or (name.startswith(".itmatch-") and name.endswith(".part"))


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of an index.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: it is damaged, of another format, or of a newer itmatch.
    """
    folder = user_path(folder)
    path = folder / NAME
    if not path.is_file():
        found = "no index in it" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: {found}{near(folder, 'one', NAME)}")
    content = read_json(path)
    if content.get("format") != _FORMAT:
        raise ValueError(f"{path}: format {shown(content.get('format'))}, expected {_FORMAT!r}; is this an index?")
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise ValueError(
            f"{path}: layout {shown(content.get('version'))} of itmatch {shown(content.get('itmatch_version'))}, "
            f"this is itmatch {__version__}, which reads layout {VERSION}; build the index again"
        )
    return _Reader(path, content).manifest()


class _Reader:
    """Takes the values of a manifest, which may come from a stranger, one by one."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    def manifest(self) -> Manifest:
        engine = self.content.get("engine")
        if engine is not None and not isinstance(engine, dict):
            raise self._error("engine", engine, "a description or null")
        return Manifest(
            commit=self._count("commit", self.content.get("commit")),
            model=self._entry("model", self.content.get("model"), "model-"),
            fingerprint=self._text("fingerprint", self.content.get("fingerprint")),
            next_serial=self._serials(),
            images=self._shards("images"),
            captions=self._shards("captions"),
            deleted=self._entry_or_none("deleted"),
            engine=engine,
            engine_folder=self._entry_or_none("engine_folder", "engine-"),
            names=self._names(),
        )

    def _error(self, where: str, value: Any, expected: str) -> ValueError:
        return ValueError(f"{self.path}: {where}: {shown(value)}, expected {expected}")

    def _count(self, where: str, value: Any) -> int:
        if type(value) is not int or not 0 <= value < _MOST_ROWS:
            raise self._error(where, value, f"a whole number from 0 to {_MOST_ROWS - 1}")
        return value

    def _text(self, where: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._error(where, value, "a text")
        return value

    def _entry(self, where: str, value: Any, start: str) -> str:
        if not isinstance(value, str) or not is_entry(value) or not value.startswith(start):
            raise self._error(where, value, f"a name such as {start}00000001")
        return value

    def _entry_or_none(self, name: str, start: str | None = None) -> str | None:
        value = self.content.get(name)
        return None if value is None else self._entry(name, value, start or f"{name}-")

    def _serials(self) -> dict[str, int]:
        value = self.content.get("next_serial")
        if not isinstance(value, dict) or set(value) != set(SIDES):
            raise self._error("next_serial", value, "a number for images and one for captions")
        return {side: self._count(f"next_serial: {side}", value[side]) for side in SIDES}

    def _shards(self, side: Side) -> tuple[ShardEntry, ...]:
        values = self.content.get(side)
        if not isinstance(values, list):
            raise self._error(side, values, "a list of shards")
        found = tuple(self._shard(f"{side}[{i}]", side, value) for i, value in enumerate(values))
        if len({shard.folder for shard in found}) < len(found):
            raise ValueError(f"{self.path}: {side}: the same folder twice")
        return found

    def _shard(self, where: str, side: Side, value: Any) -> ShardEntry:
        if not isinstance(value, dict) or set(value) != {"folder", "rows", "bytes"}:
            raise self._error(where, value, "folder, rows and bytes")
        sizes = value["bytes"]
        if not isinstance(sizes, dict):
            raise self._error(f"{where}: bytes", sizes, "the size of each file")
        return ShardEntry(
            self._entry(where, value["folder"], f"{side}-"),
            self._count(f"{where}: rows", value["rows"]),
            {str(name): self._count(f"{where}: {name}", size) for name, size in sizes.items()},
        )

    def _names(self) -> dict[str, list[str]]:
        value = self.content.get("names")
        good = isinstance(value, dict) and all(
            isinstance(names, list) and all(isinstance(name, str) for name in names) for names in value.values()
        )
        if not good:
            raise self._error("names", value, "lists of names")
        return dict(value)  # type: ignore[arg-type]  # looked at above
