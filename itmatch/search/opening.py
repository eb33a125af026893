"""Opening the shards of an index beside a writer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmatch.formats.arrays import Array, open_array
from itmatch.search.collection import Collection
from itmatch.search.store.columns import open_shard
from itmatch.search.store.manifest import SIDES, Manifest, Side, read_manifest


@dataclass(frozen=True, eq=False)
class State:
    """An index at a commit."""

    manifest: Manifest
    collections: dict[Side, Collection]
    deleted: dict[Side, Array]


def open_state(folder: Path) -> State:
    """The last commit of an index.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: it is damaged.
    """
    manifest = read_manifest(folder)
    while True:
        try:
            return _state(folder, manifest)
        except FileNotFoundError as error:
            now = read_manifest(folder)
            if now.commit == manifest.commit:
                raise ValueError(f"{error}, though the manifest names it") from None
            manifest = now  # a writer has put other shards in the place of these


def _state(folder: Path, manifest: Manifest) -> State:
    """The images and the captions that a manifest names."""
    deleted: dict[Side, Array] = {side: np.zeros(0, np.int64) for side in SIDES}
    if manifest.deleted is not None:
        path = folder / manifest.deleted
        table: Array = np.array(open_array(path, ndim=2, dtypes=["int64"]))
        if table.shape[1] != 2 or not np.isin(table[:, 0], (0, 1)).all():
            raise ValueError(f"{path}: shape {table.shape}, expected (any, 2), a side and a number of a row")
        deleted = {side: table[table[:, 0] == place, 1] for place, side in enumerate(SIDES)}
    found: dict[Side, Collection] = {}
    for side in SIDES:
        shards = [open_shard(folder, entry, side) for entry in manifest.shards(side)]
        names = manifest.names.get("predicates", [])
        found[side] = Collection(side, shards, deleted[side], names, where=str(folder))
        last = max((int(shard.values["serial"][-1]) for shard in shards if shard.rows), default=-1)
        if last >= manifest.next_serial[side]:
            raise ValueError(f"{folder}: {side} have numbers up to {last}, expected {manifest.next_serial[side] - 1}")
    sizes = {collection.embed_dim for collection in found.values()} - {None}
    if len(sizes) > 1:
        raise ValueError(f"{folder}: images and captions have fragments of sizes {sorted(map(str, sizes))}")
    return State(manifest, found, deleted)
