"""Opening the shards of an index beside a writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from itmatch.data import Names
from itmatch.formats.arrays import Array, open_array
from itmatch.formats.files import user_path
from itmatch.formats.messages import shown
from itmatch.models import MatchingModel
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine
from itmatch.search.store.columns import open_shard
from itmatch.search.store.manifest import NAME, SIDES, Manifest, Side, is_own, read_manifest
from itmatch.spec import build
from itmatch.trust import import_class

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class State:
    """An index at a commit."""

    manifest: Manifest
    collections: dict[Side, Collection]
    deleted: dict[Side, Array]


def at_last_commit(folder: Path, opened: Callable[[Manifest], T]) -> T:
    """What a function makes of the manifest of the last commit.

    Args:
        folder: of the index.
        opened: opens files that the manifest names; it is called again where a writer has removed them meanwhile.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: it is damaged.
    """
    manifest = read_manifest(folder)
    while True:
        try:
            return opened(manifest)
        except (FileNotFoundError, ValueError) as error:  # a file that goes while it is opened gives either
            now = read_manifest(folder)
            if now.commit == manifest.commit and isinstance(error, FileNotFoundError):
                raise ValueError(f"{error}, though {folder / NAME} names it") from None
            if now.commit == manifest.commit:
                raise
            manifest = now


def state_of(folder: Path, manifest: Manifest) -> State:
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
        names = Names(manifest.names.get("labels", ()), manifest.names.get("predicates", ()))
        found[side] = Collection(side, shards, deleted[side], names, where=str(folder))
        last = max((int(shard.values["serial"][-1]) for shard in shards if shard.rows), default=-1)
        if last >= manifest.next_serial[side]:
            raise ValueError(f"{folder}: {side} have numbers up to {last}, expected {manifest.next_serial[side] - 1}")
    sizes = {collection.embed_dim for collection in found.values()} - {None}
    if len(sizes) > 1:
        raise ValueError(f"{folder}: images and captions have fragments of sizes {sorted(map(str, sizes))}")
    return State(manifest, found, deleted)


def folder_inside(folder: Path, name: str) -> Path:
    """A folder of the index, for files that others read; none of them may be a link that leads out of the index.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: a link leads out of the index.
    """
    path = folder / name
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    for part in (path, *path.iterdir()):
        if not part.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{part}: a link out of the index")
    return path.absolute()


def named_engine(folder: Path, manifest: Manifest, trusted_modules: Sequence[str]) -> Engine | None:
    """The first stage that an index names, as it was built; None where it names none.

    Raises:
        ValueError: it is none, is not admitted, or reaches out of the folder.
    """
    if manifest.engine is None:
        return None
    where = f"{folder / NAME}: engine"
    path = manifest.engine.get("class_path")
    kind = import_class(path, where, trusted_modules) if isinstance(path, str) else None
    if kind is not None and issubclass(kind, Engine) and not kind.is_local:
        raise ValueError(f"{where}: {path} reaches out of the index; give Index.open the engine, or exact=True")
    found = build(manifest.engine, Engine, where, trusted_modules=trusted_modules)
    if not isinstance(found, Engine):
        raise ValueError(f"{where}: {shown(manifest.engine)}, expected class_path and init_args")
    return found


def engine_at(folder: Path, place: str, trusted_modules: Sequence[str] = ()) -> Engine:
    """The first stage of an index that was built with Qdrant, at a place that a user names.

    What the index says of the place counts for nothing: it may come from a stranger.

    Args:
        folder: of the index.
        place: a folder, or a URL of a server.
        trusted_modules: modules of your own that the index may name.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the index was not built with Qdrant.
    """
    from itmatch.search.qdrant.engine import Qdrant  # which imports this room

    spec = read_manifest(folder).engine or {}
    where, path = f"{folder / NAME}: engine", spec.get("class_path")
    kind = import_class(path, where, trusted_modules) if isinstance(path, str) else None
    if kind is None or not issubclass(kind, Qdrant):
        raise ValueError(f"{folder}: was not built with Qdrant, so it is not looked for at {place}")
    is_url = place.startswith(("http://", "https://"))
    if not is_url and not user_path(place).is_dir():
        raise FileNotFoundError(f"{place}: no such folder, expected that of Qdrant, or http://HOST:PORT")
    arguments = {**(spec.get("init_args") or {}), "path": None, "url": None, ("url" if is_url else "path"): place}
    found: Engine = build({"class_path": path, "init_args": arguments}, Qdrant, where, trusted_modules=trusted_modules)
    return found


def outer_place(folder: Path, trusted_modules: Sequence[str] = ()) -> str | None:
    """Where an index says that its first stage lies, if that is outside of the index; None = inside, or nowhere."""
    engine = read_manifest(folder).engine or {}
    path, arguments = engine.get("class_path"), engine.get("init_args")
    kind = import_class(path, f"{folder / NAME}: engine", trusted_modules) if isinstance(path, str) else None
    if kind is None or not issubclass(kind, Engine) or kind.is_local:
        return None
    given = arguments if isinstance(arguments, dict) else {}
    return str(given.get("url") or given.get("path") or path)


def opened_state(folder: Path, manifest: Manifest, model: MatchingModel, engine: Engine | None) -> State:
    """What a manifest names, and the engine made ready for it."""
    state = state_of(folder, manifest)
    if engine is not None:
        if manifest.engine_folder is None:
            raise ValueError(f"{folder}: has no first stage; build it with engine={type(engine).__name__}()")
        engine.open(folder_inside(folder, manifest.engine_folder), state.collections, model.similarity)
    return state


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Raise unless an index may be built in a folder: an empty one, or one with an index that is to go."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: a file, expected a folder for the index")
    if (folder / NAME).exists():
        if not overwrite:
            raise FileExistsError(f"{folder}: there is an index already; overwrite=True builds it anew")
        return
    others = sorted(path.name for path in folder.iterdir() if not is_own(path.name))
    if others:
        raise FileExistsError(f"{folder}: holds {shown(others[0])}, which is no index; give a folder of its own")
