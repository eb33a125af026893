"""The tokens of a caption as words that people read."""

from __future__ import annotations

from dataclasses import dataclass

from itmatch.data import Tokenizer


@dataclass(frozen=True)
class ShownWords:
    """The tokens of a caption that are part of its text; those of the frame are left out.

    Args:
        places: of the tokens in the caption.
        names: the piece of the text that each stands for.
        joined: whether a token goes on with the word of the one before it.
    """

    places: tuple[int, ...]
    names: tuple[str, ...]
    joined: tuple[bool, ...]


def shown_words(tokenizer: Tokenizer | None, text: str, ids: list[int]) -> ShownWords:
    """What the tokens of a text are called.

    A tokenizer that does not say where its tokens stand gives the words of its vocabulary, or numbers.

    Example:
        >>> from itmatch.data import WordTokenizer
        >>> tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a", "dog"])
        >>> shown_words(tokenizer, "A dog", tokenizer(["A dog"])[0])
        ShownWords(places=(1, 2), names=('A', 'dog'), joined=(False, False))
    """
    hidden = frozenset[int]() if tokenizer is None else tokenizer.special_ids
    try:
        spans = [] if tokenizer is None else tokenizer.spans([text])[0]
    except (NotImplementedError, ValueError):
        spans = []
    if len(spans) != len(ids):  # it does not say, or does not agree with itself
        kept = [place for place, token in enumerate(ids) if token not in hidden]
        vocabulary = None if tokenizer is None else tokenizer.vocabulary
        names = [f"token {ids[place]}" if vocabulary is None else vocabulary.words[ids[place]] for place in kept]
        return ShownWords(tuple(kept), tuple(names), (False,) * len(kept))
    kept = [place for place, (start, end) in enumerate(spans) if start < end]
    joined = [
        bool(before) and spans[before[-1]][1] == spans[place][0] and text[spans[place][0]].isalnum()
        for place, before in zip(kept, (kept[:i] for i in range(len(kept))), strict=True)
    ]
    return ShownWords(tuple(kept), tuple(text[slice(*spans[place])] for place in kept), tuple(joined))
