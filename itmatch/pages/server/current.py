"""An index while others write to it: as its last commit has it."""

from __future__ import annotations

import copy
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from itmatch.formats.messages import reason
from itmatch.search import Index
from itmatch.search.store.manifest import NAME


class CurrentIndex:
    """Gives an index as its last commit has it; each that was given stays as it is.

    Whether something was committed is seen by the manifest, which every commit replaces: one look at its size and time.

    Args:
        index: as it was opened.
        again: opens it anew, where it was built anew with another model or first stage; None: that is an error.
    """

    def __init__(self, index: Index, again: Callable[[], Index] | None = None) -> None:
        self._index, self._again = index, again
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None  # of the manifest; None: it has not been looked at

    def get(self) -> Index:
        """The index; one that cannot be opened any more is told of once, and stays as it was."""
        if _mark(self._index.path) != self._seen:
            with self._lock:
                mark = _mark(self._index.path)  # before the manifest is read: what comes later is seen the next time
                if mark != self._seen:
                    self._renew()
                    self._seen = mark
        return self._index

    def _renew(self) -> None:
        try:
            self._index = self._refreshed()
        except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
            told = f"{reason(error)}; the page goes on with the index as it was"
            print(f"itmatch: warning: {told}", file=sys.stderr, flush=True)

    def _refreshed(self) -> Index:
        index = copy.copy(self._index)  # whose state and engine others may be using at this moment
        index.engine = copy.copy(index.engine)
        try:
            index.refresh()
        except ValueError:
            if self._again is None:
                raise
            return self._again()
        return index


def _mark(folder: Path) -> tuple[int, ...]:
    """What tells a manifest from another; empty where there is none."""
    try:
        status = os.stat(folder / NAME)
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size
