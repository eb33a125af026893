"""Checking a text file of word vectors."""

from __future__ import annotations

from pathlib import Path

from itmatch.data.check.report import CheckReport
from itmatch.formats.word_vectors import WordVectorFile


def check_vectors(path: Path) -> CheckReport:
    """Read all of a file of GloVe, fastText or word2vec text: a word and its numbers on every line."""
    report = CheckReport(str(path), "word vectors")
    file = WordVectorFile(path)
    try:
        for number, _, line in file:
            file.numbers(number, line)
    except ValueError as error:  # in a file of another kind every line would be one
        report.problems.append(str(error))
        return report
    report.found.append(f"{file.count} words of {file.size} numbers")
    if file.cut_off:
        report.warnings.append(file.cut_off)
    return report
