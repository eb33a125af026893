"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; what was written takes its place as ``path`` when the block ends without an error.

    Raises:
        OSError: it could not be written (a full disk, no permission); names ``path``, which is as it was before.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except BaseException as error:
        if not isinstance(error, NotADirectoryError):  # then there is nothing beside, and asking would raise again
            beside.unlink(missing_ok=True)
        reason = _write_error(error)
        if reason is not None:
            raise OSError(f"{path}: cannot be written ({reason})") from error
        raise


def write_text(path: str | Path, content: str) -> None:
    """Write a text file, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(content, encoding="utf-8")


def _write_error(error: BaseException | None) -> str | None:
    """Why nothing could be written, if that is what went wrong; torch hides it in the context of a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return None if error is None else error.strerror or str(error)
