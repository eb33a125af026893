"""Checking a text file of word vectors."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from itmatch.data.sources.check_report import CheckReport
from itmatch.formats.files import check_encoding
from itmatch.formats.messages import is_count

_VECTOR_LINES = 10_000  # lines that are looked at
_LARGEST = float(np.finfo(np.float32).max)


def check_vectors(path: Path) -> CheckReport:
    """A first look at GloVe or fastText text: a word and its numbers on every line."""
    report = CheckReport(str(path), "word vectors")
    size: int | None = None
    count = 0
    with path.open("rb") as file:
        try:
            check_encoding(file.read(4), path)
        except ValueError as error:
            report.problems.append(str(error))
            return report
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as lines:
        for line, text in enumerate(islice(lines, _VECTOR_LINES), 1):
            parts = text.rstrip().split(" ")
            if line == 1 and len(parts) == 2 and all(map(is_count, parts)):
                size = int(parts[1])  # the header of fastText: number of words, size
                continue
            size = len(parts) - 1 if size is None else size
            problem = _vector_problem(parts, size)
            if problem:
                report.problems.append(f"{path}:{line}: {problem}")
                break  # in a file of another kind every line would be one
            count += 1
    if count == 0 and not report.problems:
        report.problems.append(f"{path}: empty")
    elif count:
        report.found.append(f"{count}{' or more' if count >= _VECTOR_LINES - 1 else ''} words of {size} numbers")
    return report


def _vector_problem(parts: list[str], size: int) -> str | None:
    try:
        numbers = [float(part) for part in parts[-size:]] if size > 0 else []  # a word may hold a blank
    except ValueError:
        return f"expected a word and {size} numbers"
    if len(parts) < size + 1 or size == 0:
        return f"{len(parts) - 1} numbers after the word, expected {size or 'some'}"
    return None if all(abs(number) <= _LARGEST for number in numbers) else "NaN or inf, as float32"
