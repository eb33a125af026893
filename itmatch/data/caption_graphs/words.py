"""Where words stand in a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from itmatch.formats.messages import shown

_QUOTES = {
    "``": ("``", '"', "''"),
    "''": ("''", '"'),
}  # how the Penn Treebank writes them, and what may have been there
_WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*")


def split_words(text: str) -> list[tuple[int, int]]:
    """The characters [start, end) of the words of a text: letters and digits, with hyphens and apostrophes inside.

    Example:
        >>> text = "A dog's ball -- a T-shirt!"
        >>> [text[start:end] for start, end in split_words(text)]
        ['A', "dog's", 'ball', 'a', 'T-shirt']
    """
    return [match.span() for match in _WORD.finditer(text)]


def align_words(words: Sequence[str], text: str) -> list[tuple[int, int]]:
    r"""The characters [start, end) of a text that each of its words stands for. Case does not matter.

    Args:
        words: in the order of the text, without what stands between them. Quotes may be written as ``nltk`` writes
            them.
        text: that was split into the words.

    Raises:
        ValueError: a word is not there.

    Example:
        >>> align_words(["``", "do", "n't", "''", "it", "says"], 'It: "Don\'t" it says')
        [(4, 5), (5, 7), (7, 10), (10, 11), (12, 14), (15, 19)]
    """
    lowered = text.lower()
    place = 0
    spans: list[tuple[int, int]] = []
    for number, word in enumerate(words):
        written = word.lower()
        forms = _QUOTES.get(written, (written,))
        found = [(start, len(form)) for form in forms if form and (start := lowered.find(form, place)) >= 0]
        if not found:
            raise ValueError(f"word {number} ({shown(word)}) is not in {shown(text)} after character {place}")
        start, length = min(found)
        place = start + length
        spans.append((start, place))
    if len(lowered) == len(text):
        return spans
    origin = [i for i, char in enumerate(text) for _ in char.lower()]  # a few letters become two
    return [(origin[start], origin[end - 1] + 1) for start, end in spans]
