"""Pretrained word vectors from a text file (GloVe, fastText, word2vec text format)."""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from itmatch.formats.files import check_encoding, user_path
from itmatch.formats.messages import is_count, shown

_LARGEST = torch.finfo(torch.float32).max
_FEW = 0.5  # of the words wanted; a file in the words' own language has most of them


def load_word_vectors(path: str | Path, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    r"""Read the vectors of some words; the file is streamed, so only these are held in memory.

    A line is a word and its numbers, separated by single spaces. A first line of two integers (number of words, size;
    fastText and word2vec write it) is a header. A word may hold spaces itself (a few in GloVe 840B do): the size of
    the vectors is known from the header or the first line, and lines are then cut from the right. Where a word
    stands in the file twice, the first counts. A file that has less than half of the words, or fewer lines than its
    header says, is warned of: it may be of another language, or cut off.

    Args:
        path: the text file, UTF-8.
        words: the words wanted, as they are spelled in the file.

    Returns:
        ``vectors``, (len(words), size) float32, zero where a word is not in the file, and ``found``, (len(words),)
        bool.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line with a wrong number of columns; a wanted line with something that is no finite number
            of float32; an empty file, or one that is UTF-16; none of the words is in the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "vectors.txt"
        ...     _ = path.write_text("dog 0.5 1.0\ncat 0.25 2.0\n")
        ...     vectors, found = load_word_vectors(path, ["cat", "unicorn"])
        >>> vectors.tolist(), found.tolist()
        ([[0.25, 2.0], [0.0, 0.0]], [True, False])
    """
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of word vectors")
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    size, _, rows = _read(path, places)
    if not rows:
        raise ValueError(f"{path}: none of the {len(words)} words of the vocabulary is in this file of word vectors")
    vectors, found = torch.zeros(len(words), size), torch.zeros(len(words), dtype=torch.bool)
    for word, values in rows.items():
        vectors[places[word]], found[places[word]] = torch.tensor(values), True
    if len(rows) < _FEW * len(places):
        warnings.warn(
            f"{path}: has {len(rows)} of the {len(places)} words of the vocabulary; the others start at random",
            stacklevel=2,
        )
    return vectors, found


def check_word_vectors(path: str | Path, lines: int) -> tuple[int, int]:
    """Number of words and size of the vectors in the first lines of a file, every one of which is checked.

    Raises:
        ValueError: as :func:`load_word_vectors`.
    """
    size, count, _ = _read(user_path(path), None, lines)
    return count, size


def _read(
    path: Path, wanted: Container[str] | None, lines: int | None = None
) -> tuple[int, int, dict[str, list[float]]]:
    """Size of the vectors, number of words, and the vectors of those wanted; None: all are checked and none is kept."""
    with path.open("rb") as raw:
        check_encoding(raw.read(4), path)
    size = count = 0
    announced: int | None = None
    rows: dict[str, list[float]] = {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:  # a word may hold U+2028 or a bare \r
        for number, line in enumerate(islice(file, lines), start=1):
            line = line.rstrip(" \r\n")
            if not line:
                continue
            if number == 1:
                size, announced = _layout(line)
                if announced is not None:
                    continue
            count += 1
            if size < 1 or line.count(" ") < size:
                raise ValueError(f"{path}, line {number}: {line.count(' ') + 1} columns, expected {_expected(size)}")
            # the common case first: millions of lines are read for some thousand words
            word = line[: line.index(" ")] if line.count(" ") == size else _word(path, number, line, size)
            if wanted is None:
                _numbers(path, number, line.split(" ")[-size:])
            elif word in wanted and word not in rows:
                rows[word] = _numbers(path, number, line.split(" ")[-size:])
    if not size:
        raise ValueError(f"{path}: an empty file of word vectors")
    if announced is not None and count < announced and lines is None:
        warnings.warn(f"{path}: {count} words, its first line says {announced}; is the file cut off?", stacklevel=3)
    return size, count, rows


def _layout(line: str) -> tuple[int, int | None]:
    """Size of the vectors, from the first line of the file, and the number of words if that line is a header."""
    columns = line.split(" ")
    if len(columns) == 2 and all(map(is_count, columns)):
        return int(columns[1]), int(columns[0])
    size = 0
    while size < len(columns) - 1 and _is_number(columns[-1 - size]):
        size += 1
    return size, None


def _word(path: Path, number: int, line: str, size: int) -> str:
    columns = line.split(" ")
    if _is_number(columns[-size - 1]):  # a number too many rather than a word with a space in it
        raise ValueError(f"{path}, line {number}: {len(columns)} columns, expected {_expected(size)}")
    return " ".join(columns[:-size])


def _expected(size: int) -> str:
    return f"{size + 1} (a word and {size} numbers)" if size else "a word and its numbers, separated by spaces"


def _numbers(path: Path, number: int, columns: list[str]) -> list[float]:
    for column in columns:
        if not _is_number(column) or not abs(float(column)) <= _LARGEST:  # also where it is NaN
            raise ValueError(f"{path}, line {number}: {shown(column)} is no finite number of float32")
    return [float(column) for column in columns]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 1_0 as 10
