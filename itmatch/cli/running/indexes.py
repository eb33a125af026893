"""An index, as the commands open it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from itmatch.formats.messages import shown
from itmatch.formats.nearby import folder_near

if TYPE_CHECKING:
    from itmatch.search import Index


@contextmanager
def opened_index(folder: Path, qdrant: str | None, trusted: list[str]) -> Iterator[Index]:
    """An index, with its first stage unless that lies outside of it and the user has not said where.

    Args:
        folder: of the index.
        qdrant: where its Qdrant is, a folder or a URL.
        trusted: modules of the user's own that the index may name.

    Raises:
        FileNotFoundError: there is no index, or no such folder.
        ValueError: it is damaged, or was not built with Qdrant.
    """
    index = open_index(folder, qdrant, trusted)
    try:
        yield index
    finally:
        close = getattr(index.engine, "close", None)  # of Qdrant: other processes may have it then
        if close is not None:
            close()


def open_index(folder: Path, qdrant: str | None, trusted: list[str]) -> Index:
    """An index that :func:`opened_index` opens."""
    from itmatch.search import Index, answers
    from itmatch.search.opening import engine_at, outer_place

    _check_is_index(folder)
    if qdrant is not None:
        return Index.open(folder, engine=engine_at(folder, qdrant, trusted), trusted_modules=trusted)
    place = outer_place(folder, trusted)
    index = Index.open(folder, exact=place is not None, trusted_modules=trusted)
    if place is not None and max(len(index.images), len(index.captions)) >= answers.PAYS:
        told = f"every row is scored; the index says that its first stage is at {shown(place)}"
        print(f"itmatch: note: {folder}: {told}, and --qdrant FOLDER or URL uses it", file=sys.stderr)
    return index


def _check_is_index(folder: Path) -> None:
    """Raise where a run is given, whose index has to be made before."""
    from itmatch.search.store.manifest import NAME

    run = folder_near(folder, "config.yaml")
    if run is not None and folder_near(folder, NAME) is None:
        raise FileNotFoundError(f"{folder}: no index in it; itmatch index {quote(str(run))} --out INDEX makes one")
