"""Dependency parses in CoNLL-U, the format of Universal Dependencies, which most parsers write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from itmatch.data.caption_graphs.base import CaptionParser, Span, relations_array
from itmatch.data.caption_graphs.dependencies import Wanted, Word, relations_of
from itmatch.data.caption_graphs.words import align_words
from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.messages import is_count, shown
from itmatch.formats.text import read_lines
from itmatch.ops.checks import check_choice

_MOST_WORDS = 1000  # of a sentence; its relations may be as many as the square


class ConlluParses(CaptionParser):
    r"""Dependency parses from a CoNLL-U file, in the order of the captions.

    A sentence is a caption. If the first sentence has a comment ``# newdoc``, then a document is: captions of several
    sentences have it before their first sentence only. The words have to be those of the caption, case aside.

    Args:
        path: the file, of one split.
        relations: "triples", who does what to whom, or "edges", the edges of the tree
            (:func:`itmatch.data.caption_graphs.dependencies.relations_of` tells more).

    Example:
        >>> import tempfile
        >>> rows = ["1 A _ _ _ _ 2 det _ _", "2 dog _ _ _ _ 3 nsubj _ _", "3 sees _ _ _ _ 0 root _ _"]
        >>> rows = [row.replace(" ", "\t") for row in [*rows, "4 cats _ _ _ _ 3 obj _ _"]]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(f"{folder}/parses.conllu").write_text("\n".join(rows))
        ...     ConlluParses(f"{folder}/parses.conllu").parse(["A dog sees cats"])[0].tolist()
        [[[2, 5], [6, 10], [11, 15]]]
    """

    def __init__(self, path: str | Path, relations: Wanted = "triples") -> None:
        self.path = user_path(path)
        self.relations: Wanted = check_choice("ConlluParses.relations", relations, "triples", "edges")

    def parse(self, captions: Sequence[str]) -> list[Array]:
        """The relations of each caption, (K, 3, 2) int32.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a line is no good, or the sentences are not those of the captions.
        """
        sentences = list(_sentences(self.path))
        by_document = bool(sentences) and sentences[0].begins
        groups: list[list[_Sentence]] = []
        for sentence in sentences:
            if sentence.begins or not by_document:
                groups.append([])
            groups[-1].append(sentence)
        if len(groups) != len(captions):
            what = "documents (# newdoc)" if by_document else "sentences (without # newdoc each is a caption)"
            raise ValueError(f"{self.path}: {len(groups)} {what}, expected {len(captions)} (captions)")
        parsed = []
        for number, (group, caption) in enumerate(zip(groups, captions, strict=True)):
            trees = self._trees(group, caption, number)
            parsed.append(relations_array([found for tree in trees for found in relations_of(tree, self.relations)]))
        return parsed

    def _trees(self, sentences: list[_Sentence], caption: str, number: int) -> Iterator[list[Word]]:
        where = f"{self.path}:{sentences[0].line}: caption {number}"
        forms = [form for sentence in sentences for form, _ in sentence.forms]
        try:
            spans = align_words(forms, caption)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        _check_nothing_between(spans, caption, where)
        start = 0
        for sentence in sentences:
            yield sentence.tree(spans[start : start + len(sentence.forms)], caption)
            start += len(sentence.forms)


@dataclass
class _Sentence:
    """A sentence as it is read.

    Args:
        line: number of its first line.
        begins: it has a comment ``# newdoc``.
        forms: what is written, and how many words it stands for: "don't" is two in some languages' files.
        words: form, head (-1 = root), label, whether it is passive.
    """

    line: int
    begins: bool = False
    forms: list[tuple[str, int]] = field(default_factory=list)
    words: list[tuple[str, int, str, bool]] = field(default_factory=list)

    def tree(self, spans: Sequence[Span], caption: str) -> list[Word]:
        """Its words, at the spans of its forms."""
        places: list[Span] = []
        for (start, end), (_, count) in zip(spans, self.forms, strict=True):
            parts = [form for form, *_ in self.words[len(places) : len(places) + count]]
            try:
                inside = align_words(parts, caption[start:end])
            except ValueError:  # "du" for "de" and "le": all of them stand for the whole
                inside = [(0, end - start)] * count
            places += [(start + first, start + last) for first, last in inside]
        return [Word(place, *word) for place, word in zip(places, self.words, strict=True)]


def _sentences(path: Path) -> Iterator[_Sentence]:
    sentence: _Sentence | None = None
    covered = 0  # words that a range of words, "3-4", still covers
    for number, line in enumerate([*read_lines(path), ""], 1):
        if not line.strip():
            if sentence is not None:
                _check_sentence(sentence, covered, path)
                yield sentence
            sentence, covered = None, 0
            continue
        if sentence is None:
            sentence = _Sentence(number)
        if line.startswith("#"):
            sentence.begins |= line[1:].split()[:1] == ["newdoc"]
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise ValueError(f"{path}:{number}: {len(columns)} columns between tabs, expected 10 (CoNLL-U)")
        if "." in columns[0]:  # a word that is not written
            continue
        first, dash, last = columns[0].partition("-")
        if dash:
            covered = int(last) - int(first) + 1 if is_count(first) and is_count(last) else 0
            if covered < 1:
                raise ValueError(f"{path}:{number}: words {shown(columns[0])}, expected two numbers that rise")
            sentence.forms.append((columns[1], covered))
            continue
        if columns[0] != str(len(sentence.words) + 1) or not is_count(columns[6]):
            raise ValueError(
                f"{path}:{number}: word {shown(columns[0])} with head {shown(columns[6])}, expected word "
                f"{len(sentence.words) + 1} with the number of another one, or 0"
            )
        passive = "Voice=Pass" in columns[5].split("|") or (columns[4] == "VBN" and columns[7] == "acl")
        sentence.words.append((columns[1], int(columns[6]) - 1, columns[7], passive))
        if covered:
            covered -= 1
        else:
            sentence.forms.append((columns[1], 1))


def _check_sentence(sentence: _Sentence, covered: int, path: Path) -> None:
    where = f"{path}:{sentence.line}"
    heads = [head for _, head, *_ in sentence.words]
    if len(heads) > _MOST_WORDS:
        raise ValueError(f"{where}: a sentence of {len(heads)} words, expected at most {_MOST_WORDS}")
    if not heads or covered:
        raise ValueError(f"{where}: a sentence {'without words' if not heads else 'that ends before its words do'}")
    for word, head in enumerate(heads):
        steps = 0
        while head >= 0 and head < len(heads) and steps <= len(heads):
            head, steps = heads[head], steps + 1
        if head >= 0:
            raise ValueError(f"{where}: the heads of word {word + 1} do not end at a root, so this is no tree")


def _check_nothing_between(spans: Sequence[Span], caption: str, where: str) -> None:
    place = 0
    for start, end in [*spans, (len(caption), len(caption))]:
        if caption[place:start].strip():
            missing = shown(caption[place:start].strip())
            raise ValueError(f"{where}: the parse lacks {missing}, expected all words of {shown(caption)}")
        place = end
