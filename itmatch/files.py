"""Files that are whole or not there: written beside their place, then renamed. And reading json, with clear errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def read_json(path: str | Path, expected: type = dict) -> Any:
    """The content of a json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not json, or its outermost value is not of the ``expected`` type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text("utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not json ({error.msg})") from None
    if not isinstance(content, expected):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected a {expected.__name__}")
    return content


def _write_error(error: BaseException | None) -> str | None:
    """Why nothing could be written, if that is what went wrong; torch hides it in the context of a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return None if error is None else error.strerror or str(error)
