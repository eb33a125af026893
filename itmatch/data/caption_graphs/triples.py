"""Triples of words that a parser left, found again in their captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from itmatch.data.caption_graphs.base import CaptionParser, Relation, Span, relations_array
from itmatch.data.caption_graphs.relations import NOWHERE
from itmatch.data.caption_graphs.stems import stems
from itmatch.data.caption_graphs.words import split_words
from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.json import parse_json
from itmatch.formats.messages import shown
from itmatch.formats.text import read_lines


class Triples(CaptionParser):
    r"""Triples of words, a line of json a caption, as parsers of scene graphs write them.

    A line is a list of ``[subject, predicate, object]``; or a dict of ``objects``, a list of words, and ``relations``,
    a list of ``[subject, predicate, object]`` whose subject and object are places in ``objects``. The words may be
    lemmas ("wear" for "wears"): they are found by their stems, and common irregular forms are known. Of several words
    together ("play on") the first that the caption has is taken. A triple whose subject or object is not found is left
    out; a predicate that is not found gets -1, -1.

    Where a caption has a word more than once, the choice is that which puts subject, predicate and object nearest to
    each other. If ``objects`` has a word as often as the caption has, their order is kept instead: the second "dog" is
    the second.

    Args:
        path: the file, of one split.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(f"{folder}/triples.jsonl").write_text('[["man", "wear", "hat"]]\n')
        ...     Triples(f"{folder}/triples.jsonl").parse(["Two men wearing a hat"])[0].tolist()
        [[[4, 7], [8, 15], [18, 21]]]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)

    def parse(self, captions: Sequence[str]) -> list[Array]:
        """The relations of each caption, (K, 3, 2) int32; ``counts`` says how many triples were found.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a line is no good, or there are not as many as captions.
        """
        lines = read_lines(self.path)
        if len(lines) != len(captions):
            raise ValueError(f"{self.path}: {len(lines)} lines, expected {len(captions)} (captions)")
        parsed, given, vague = [], 0, 0
        for number, (line, caption) in enumerate(zip(lines, captions, strict=True), 1):
            triples = list(_triples(parse_json(line, self.path, number), f"{self.path}:{number}"))
            placed = list(_placed(triples, caption))
            given += len(triples)
            vague += sum(predicate == NOWHERE for _, predicate, _ in placed)
            parsed.append(relations_array(placed))
        found = sum(map(len, parsed))
        self.counts = {
            "triples in the file": given,
            "left out (subject or object not found)": given - found,
            "without the place of a predicate": vague,
        }
        return parsed


_Entity = tuple[str, int, int]  # a word, and that it is number i of n equal ones; n = 0: nobody knows
_Triple = tuple[_Entity, str, _Entity]


def _triples(content: Any, where: str) -> Iterator[_Triple]:
    """The triples of a line; ``where`` is its file and number."""
    if isinstance(content, dict):
        yield from _indexed(content.get("objects"), content.get("relations"), where)
        return
    for triple in _lists(content, where):
        if not all(isinstance(word, str) for word in triple):
            raise ValueError(f"{where}: {shown(triple)}, expected [subject, predicate, object] as words")
        yield (triple[0], 0, 0), triple[1], (triple[2], 0, 0)


def _indexed(objects: Any, relations: Any, where: str) -> Iterator[_Triple]:
    if not isinstance(objects, list) or not all(isinstance(word, str) for word in objects):
        raise ValueError(f"{where}: expected 'objects', a list of words, and 'relations'")
    entities = [(word, objects[:i].count(word), objects.count(word)) for i, word in enumerate(objects)]
    for subject, predicate, other in _lists(relations, where):
        good = all(type(place) is int and 0 <= place < len(objects) for place in (subject, other))
        if not good or not isinstance(predicate, str):
            raise ValueError(
                f"{where}: {shown([subject, predicate, other])}, expected [subject, predicate, object], a word between "
                f"two places in 0..{len(objects) - 1} ('objects')"
            )
        yield entities[subject], predicate, entities[other]


def _lists(content: Any, where: str) -> list[list[Any]]:
    if not isinstance(content, list) or not all(isinstance(row, list) and len(row) == 3 for row in content):
        raise ValueError(f"{where}: expected a list of [subject, predicate, object]")
    return content


def _placed(triples: list[_Triple], caption: str) -> Iterator[Relation]:
    """The triples that can be found in a caption."""
    if not triples:
        return
    words = split_words(caption)
    parts = [(start + i, start + j) for start, end in words for i, j in _parts(caption[start:end])]
    for subject, phrase, other in triples:
        predicates = [found for word in phrase.split() if (found := _places(word, caption, words, parts))]
        choices = product(
            _entity(subject, caption, words, parts),
            predicates[0] if predicates else [NOWHERE],
            _entity(other, caption, words, parts),
        )
        apart = [choice for choice in choices if len(set(choice)) == 3]
        if apart:
            yield min(apart, key=_distance)


def _entity(entity: _Entity, caption: str, words: list[Span], parts: list[Span]) -> list[Span]:
    word, number, equals = entity
    found = _places(word, caption, words, parts)
    return [found[number]] if found and len(found) == equals else found


def _places(word: str, caption: str, words: list[Span], parts: list[Span]) -> list[Span]:
    """Where a form of a word stands: as a word, or else as a part of one, or else the first of its own parts does."""
    wanted = stems(word)
    for spans in (words, parts):
        found = [(start, end) for start, end in spans if wanted & stems(caption[start:end])]
        if found:
            return found
    pieces = [word[i:j] for i, j in _parts(word)]
    found_pieces = (_places(piece, caption, words, parts) for piece in pieces if piece != word)
    return next((found for found in found_pieces if found), [])


def _parts(word: str) -> list[Span]:
    """The letters and digits of a word, without the hyphens and apostrophes between them, nor blanks."""
    parts, start = [], 0
    for end, char in enumerate(f"{word} "):
        if not char.isalnum():
            if end > start:
                parts.append((start, end))
            start = end + 1
    return parts


def _distance(choice: Relation) -> tuple[int, bool, int]:
    """How far the words are apart; then whether the object comes first; then how far the predicate is from it."""
    subject, predicate, other = choice
    real = [span for span in choice if span != NOWHERE]
    reach = max(end for _, end in real) - min(start for start, _ in real)
    return reach, subject > other, abs(other[0] - predicate[0])
