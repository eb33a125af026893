"""What somebody meant who gave a folder too high or too low."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

_DEPTH, _MOST, _ALL = 3, 200, 2000  # folders that are looked into: so deep, so many of one, so many in all


def folder_near(path: str | Path, *names: str) -> Path | None:
    """A folder above or below a path that holds one of some files; of several the one that was written last.

    Args:
        path: a folder, or a file.
        names: of the files.
    """
    path = Path(path)
    if not path.exists():
        return None
    below = list(islice(_below(path, _DEPTH), _ALL)) if path.is_dir() else []
    for places in ([path], below, *([place] for place in path.parents[:2] if place.name)):
        found = [place for place in places if any((place / name).is_file() for name in names)]
        if found:
            return max(found, key=lambda place: max(_time(place / name) for name in names))
    return None


def near(path: str | Path, what: str, *names: str) -> str:
    """The end of an error message that says where such a folder is; empty where there is none.

    Args:
        path: that was given.
        what: the folder is, ``"a run"`` for example.
        names: of its files.
    """
    found = folder_near(path, *names)
    return "" if found is None else f"; {found} is {what}"


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Folders in a folder, and in those."""
    inside: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        inside += [Path(entry.path) for entry in islice(entries, _MOST) if _is_folder(entry)]
    for one in inside:
        yield one
        if depth > 1:
            yield from _below(one, depth - 1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
