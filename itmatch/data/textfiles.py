"""Reading text and json files, with errors that name the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file without their ends; only a newline ends a line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x})") from None
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


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
