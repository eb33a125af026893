"""Reading text files line by line."""

from __future__ import annotations

from pathlib import Path

from itmatch.formats.files import read_text


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file without their ends; only a newline ends a line.

    Empty lines at the end of the file, which editors leave there, are no lines. A byte order mark is no part of a line:
    neither the file's own, nor that of a file that was appended to another.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is not UTF-8, or holds a 0 byte.
    """
    lines = [line.rstrip("\r").removeprefix("\ufeff") for line in read_text(path).split("\n")]
    while lines and lines[-1] == "":
        lines.pop()
    return lines
