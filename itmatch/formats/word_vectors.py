"""Pretrained word vectors from a text file (GloVe, fastText, word2vec text format), packed by gzip or not."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from itmatch.formats.files import check_encoding, user_path
from itmatch.formats.messages import is_count, reason, shown

_LARGEST = torch.finfo(torch.float32).max
_LONGEST = 1 << 20  # characters of a line; a small gzip file may stand for a line that fills the memory
_FEW = 0.5  # of the words wanted; a file in the words' own language has most of them


def load_word_vectors(path: str | Path, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    r"""Read the vectors of some words; the file is streamed, so only these are held in memory.

    A line is a word and its numbers, separated by single spaces or tabs. A first line of two integers (number of words,
    size; fastText and word2vec write it) is a header. A word may hold spaces itself (a few in GloVe 840B do): the size
    of the vectors is known from the header or the first line, and lines are then cut from the right. Where a word
    stands in the file twice, the first counts. A file that has less than half of the words, or fewer lines than its
    header says, is warned of: it may be of another language, or cut off.

    Args:
        path: the text file, UTF-8, as it is or packed by gzip (``.gz``).
        words: the words wanted, as they are spelled in the file.

    Returns:
        ``vectors``, (len(words), size) float32, zero where a word is not in the file, and ``found``, (len(words),)
        bool.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line with a wrong number of columns; a wanted line with something that is no finite number
            of float32; a file that is empty, UTF-16, or no text; none of the words is in the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "vectors.txt"
        ...     _ = path.write_text("dog 0.5 1.0\ncat 0.25 2.0\n")
        ...     vectors, found = load_word_vectors(path, ["cat", "unicorn"])
        >>> vectors.tolist(), found.tolist()
        ([[0.25, 2.0], [0.0, 0.0]], [True, False])
    """
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    file = WordVectorFile(path)
    rows: dict[str, list[float]] = {}
    for number, word, line in file:
        if word in places and word not in rows:
            rows[word] = file.numbers(number, line)
    if not rows:
        raise ValueError(
            f"{file.path}: none of the {len(words)} words of the vocabulary is in this file of word vectors"
        )
    if file.cut_off:
        warnings.warn(file.cut_off, stacklevel=2)
    vectors, found = torch.zeros(len(words), file.size), torch.zeros(len(words), dtype=torch.bool)
    for word, values in rows.items():
        vectors[places[word]], found[places[word]] = torch.tensor(values), True
    if len(rows) < _FEW * len(places):
        warnings.warn(
            f"{file.path}: has {len(rows)} of the {len(places)} words of the vocabulary; the others start at random",
            stacklevel=2,
        )
    return vectors, found


class WordVectorFile:
    """The lines of a file of word vectors: iterating gives the line's number, its word, and the line.

    Args:
        path: of the text file, or of one that gzip packed.

    Attributes:
        size: numbers per word, known from the first line on.
        announced: words that there should be, where the first line says so.
        count: words that were read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file of word vectors")
        self.size = self.count = 0
        self.announced: int | None = None

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        for number, line in enumerate(self._lines(), start=1):
            line = (line.replace("\t", " ") if "\t" in line else line).rstrip(" \r\n")
            if not line:
                continue
            if number == 1:
                self._read_layout(line)
                if self.announced is not None:
                    continue
            self.count += 1
            size = self.size
            if size < 1 or line.count(" ") < size:
                raise ValueError(f"{self.path}, line {number}: {line.count(' ') + 1} columns, {self._expected()}")
            # the common case first: millions of lines are read for some thousand words
            yield number, line[: line.index(" ")] if line.count(" ") == size else self._long_word(number, line), line
        if not self.size:
            raise ValueError(f"{self.path}: an empty file of word vectors")

    @property
    def cut_off(self) -> str:
        """A sentence on words that are missing, once the file was read; empty where none are known to be."""
        if self.announced is None or self.count >= self.announced:
            return ""
        return f"{self.path}: {self.count} words, its first line says {self.announced}; is the file cut off?"

    def numbers(self, number: int, line: str) -> list[float]:
        """The numbers of a line; raises a ValueError where one is no finite number of float32."""
        columns = line.split(" ")[-self.size :]
        for column in columns:
            if not _is_number(column) or not abs(float(column)) <= _LARGEST:  # also where it is NaN
                raise ValueError(f"{self.path}, line {number}: {shown(column)} is no finite number of float32")
        return [float(column) for column in columns]

    def _lines(self) -> Iterator[str]:
        with self.path.open("rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            check_encoding(start, self.path)
            if start == b"PK\3\4" or self.path.suffix == ".bin":
                raise ValueError(
                    f"{self.path}: {'a zip archive' if start[:2] == b'PK' else 'a binary file'}, expected word vectors "
                    "as text (.txt, .vec, or one of them as .gz)"
                )
            unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if start[:2] == b"\x1f\x8b" else raw
            # a word may hold U+2028 or a bare \r
            text = io.TextIOWrapper(unpacked, encoding="utf-8-sig", errors="replace", newline="\n")
            try:
                while line := text.readline(_LONGEST):
                    if len(line) == _LONGEST:
                        raise ValueError(f"{self.path}: a line of more than {_LONGEST} characters")
                    yield line
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{self.path}: cannot be unpacked ({reason(error)})") from None

    def _read_layout(self, line: str) -> None:
        """Find the size of the vectors in the first line, and the number of words if that line is a header."""
        columns = line.split(" ")
        if len(columns) == 2 and all(map(is_count, columns)):
            self.announced, self.size = int(columns[0]), int(columns[1])
            return
        while self.size < len(columns) - 1 and _is_number(columns[-1 - self.size]):
            self.size += 1

    def _long_word(self, number: int, line: str) -> str:
        columns = line.split(" ")
        if _is_number(columns[-self.size - 1]):  # a number too many rather than a word with a space in it
            raise ValueError(f"{self.path}, line {number}: {len(columns)} columns, {self._expected()}")
        return " ".join(columns[: -self.size])

    def _expected(self) -> str:
        if not self.size:
            return "expected a word and its numbers, separated by spaces or tabs"
        return f"expected {self.size + 1} (a word and {self.size} numbers)"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 1_0 as 10
