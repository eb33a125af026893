"""What keeps writers apart: a folder for each to write in, and a lock; and removing what killed writers left."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\.itmatch-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{16}\.part")  # machine, process, chance
_DAY = 24 * 60 * 60


def make_temporary(folder: Path) -> Path:
    """A new hidden folder inside ``folder``, on the same file system, whose name no other writer has.

    Those of processes that are no more are removed first. They are known by the number of their process; those of other
    machines, which may share the folder, by being untouched for a day.
    """
    for place in folder.glob(".itmatch-*.part"):
        found = _NAME.fullmatch(place.name)
        if found and _is_left(place, found[1], int(found[2])):
            shutil.rmtree(place, ignore_errors=True)
    new = folder / f".itmatch-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.part"
    new.mkdir()
    return new


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of the blocks of this function for the same folder, where the system can."""
    file = None
    if os.name == "posix":
        import fcntl

        with suppress(OSError):  # a folder that cannot be read; some network file systems have no locks
            file = os.open(folder, os.O_RDONLY)
            fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)  # this ends the lock, as the end of the process does


def _is_left(place: Path, machine: str, process: int) -> bool:
    if machine == _machine() and _is_gone(process):
        return True
    try:
        newest = max(path.stat().st_mtime for path in (place, *place.iterdir()))
    except OSError:  # its process has just removed it
        return False
    return time.time() - newest > _DAY


def _is_gone(process: int) -> bool:
    if os.name != "posix":  # there is no harmless way to ask
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False


@cache
def _machine() -> str:
    """What the numbers of processes are unique in: a start of a machine and, on Linux, a container on it."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text("ascii") + os.readlink("/proc/self/ns/pid")
    except OSError:
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:8]
