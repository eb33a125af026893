"""Files that are whole or not there: written beside their place, then renamed. And reading text, with clear errors."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OTHER_ENCODINGS = {  # by the mark that such a file begins with; that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a user writes it: ``~`` is the home folder, which only a shell would make of it otherwise."""
    return Path(os.path.expanduser(path))


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


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 file, without the byte order mark that some editors begin it with.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not UTF-8, or holds the character of number 0, which no text has; names the line.
    """
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    raw = path.read_bytes()
    check_encoding(raw, path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = error.start + (len(raw) - len(error.object))  # counted without the mark
        line = raw.count(b"\n", 0, place) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte 0x{raw[place]:02x})") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path}:{line}: holds the byte 0x00, expected UTF-8 text (is it UTF-16?)")
    return text


def check_encoding(start: bytes, path: Path) -> None:
    """Refuse a file that begins with the mark of another encoding; ``start`` is its first four bytes, or more.

    Raises:
        ValueError: names the file and the encoding.
    """
    for mark, name in _OTHER_ENCODINGS.items():
        if start.startswith(mark):
            raise ValueError(f"{path}: {name}, expected UTF-8; save it again as UTF-8")


def read_json(path: str | Path, expected: type = dict) -> Any:
    """The content of a json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8, not json, or its outermost value is not of the ``expected`` type.
    """
    path = user_path(path)
    try:
        content = json.loads(read_text(path))
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
