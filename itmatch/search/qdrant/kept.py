"""What an index keeps of its collections in Qdrant."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmatch.formats.arrays import Array, open_array, save_array
from itmatch.formats.files import read_json, write_text
from itmatch.formats.messages import shown
from itmatch.search.store.manifest import SIDES, Side

_FILE = "qdrant.json"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}-[0-9a-f]{12}-(?:images|captions)")


@dataclass(frozen=True, eq=False)
class Kept:
    """A side of an index in Qdrant.

    Args:
        name: of the collection.
        size: of its vectors; 0 = it has not been made yet, since there were no rows.
        held: serials of the points that commits put there. There may be more points, of a commit that failed or is
            under way; their numbers are larger than those of all rows.
        live: serials of the rows of the index; all points beside them go in the next commit.
    """

    name: str
    size: int
    held: Array
    live: Array

    @staticmethod
    def new(name: str) -> dict[Side, Kept]:
        """Collections that are not there yet, with names that nobody has."""
        key, none = secrets.token_hex(6), np.zeros(0, np.int64)
        return {side: Kept(f"{name}-{key}-{side}", 0, none, none) for side in SIDES}

    @staticmethod
    def write(folder: Path, kept: Mapping[Side, Kept]) -> None:
        """Write them into the folder of an engine."""
        for side, own in kept.items():
            save_array(folder / f"{side}-held.npy", own.held)
            save_array(folder / f"{side}-live.npy", own.live)
        content = {side: {"name": own.name, "size": own.size} for side, own in kept.items()}
        write_text(folder / _FILE, json.dumps(content))

    @staticmethod
    def read(folder: Path) -> dict[Side, Kept]:
        """What :meth:`write` wrote, checked: a name can lead nowhere else."""
        path = folder / _FILE
        content = read_json(path)
        found: dict[Side, Kept] = {}
        for side in SIDES:
            own = content.get(side)
            name, size = (own.get("name"), own.get("size")) if isinstance(own, dict) else (None, None)
            if not isinstance(name, str) or not _NAME.fullmatch(name) or not name.endswith(side):
                raise ValueError(f"{path}: {side}: name {shown(name)}, expected that of a collection of {side}")
            if type(size) is not int or not 0 <= size <= 1 << 20:
                raise ValueError(f"{path}: {side}: size {shown(size)}, expected a whole number of at most {1 << 20}")
            arrays: list[Array] = []
            for kind in ("held", "live"):
                place = folder / f"{side}-{kind}.npy"
                arrays.append(np.array(open_array(place, ndim=1, dtypes=["int64"])))
                if (np.diff(arrays[-1]) <= 0).any():
                    raise ValueError(f"{place}: numbers of rows do not rise")
            found[side] = Kept(name, size, arrays[0], arrays[1])
        return found
