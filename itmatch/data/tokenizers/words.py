"""Captions to token ids, a token per word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from itmatch.data.caption_graphs.words import align_words
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.data.tokenizers.vocabulary import END, MASK, PAD, START, UNKNOWN, Vocabulary
from itmatch.ops.checks import check_several, check_whole


class WordTokenizer(Tokenizer):
    """Lower-cased words and punctuation, between ``<start>`` and ``<end>``.

    ``<mask>``, which :class:`SizeAugmentation` writes, is appended to a vocabulary that has none, as the public code of
    VSE-infinity does; the ids of the words stay those of the file.

    Args:
        vocabulary: a json file of SCAN, a pickled one of VSE++ or SCAN, or words in the order of their ids; None =
            :meth:`fit` builds it from the training captions.
        min_count: words rarer than this in the training captions become ``<unk>``; used by :meth:`fit` alone.

    Deviation:
        The published code splits a caption into sentences first, for which nltk needs a downloaded model. Ours does
        not, so a full stop inside a caption stays at its word.

    Example:
        >>> tokenizer = WordTokenizer(min_count=1)
        >>> tokenizer.fit(["A dog's ball."])
        >>> [tokenizer.vocabulary.words[i] for i in tokenizer(["a red ball."])[0]]
        ['<start>', 'a', '<unk>', 'ball', '.', '<end>']
        >>> tokenizer.batch(["a ball.", "ball"])
        Captions(input_ids (2, 5) int64, mask (2, 5) bool)
    """

    def __init__(self, vocabulary: str | Path | list[str] | None = None, min_count: int = 4) -> None:
        self.min_count = check_whole("min_count", min_count)
        self._vocabulary: Vocabulary | None = None
        self._first: list[str] = []
        if isinstance(vocabulary, (str, Path)):
            self._vocabulary = Vocabulary.from_file(vocabulary).with_mask()
        elif vocabulary is not None:
            self._vocabulary = Vocabulary(vocabulary).with_mask()

    def spec_arguments(self) -> dict[str, Any]:
        """The words themselves: a checkpoint needs neither the file nor the captions they came from."""
        if self._vocabulary is None:
            return super().spec_arguments()
        return {"vocabulary": list(self._vocabulary.words)}  # min_count has done its work

    def fit(self, captions: Iterable[str]) -> None:
        """Build the vocabulary, unless there is one."""
        if self._vocabulary is None:
            built = Vocabulary.build((self.words(text) for text in check_several("captions", captions)), self.min_count)
            self._vocabulary = Vocabulary(list(dict.fromkeys([*self._first, *built.words]))).with_mask()

    def begin_with(self, words: Sequence[str]) -> None:
        """Let the vocabulary that :meth:`fit` builds begin with these words, in this order, however rare they are."""
        self._first = list(check_several("words", words))

    @property
    def fitted(self) -> bool:
        """Whether there is a vocabulary."""
        return self._vocabulary is not None

    def words(self, text: str) -> list[str]:
        """The words of a text, without the frame."""
        return [str(word) for word in self._splitter.tokenize(text.lower())]

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        vocabulary = self.vocabulary
        start, end = vocabulary[START], vocabulary[END]
        return [[start, *vocabulary.encode(self.words(text)), end] for text in check_several("texts", texts)]

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The characters [start, end) of each text that each of its tokens stands for; (0, 0) for those of the frame.

        Raises:
            ValueError: a subclass has a method :meth:`words` that gives other words than those of the text.
        """
        return [[(0, 0), *align_words(self.words(text), text), (0, 0)] for text in texts]

    @cached_property
    def _splitter(self) -> Any:
        from nltk.tokenize import NLTKWordTokenizer  # here, since importing nltk takes a while

        return NLTKWordTokenizer()

    @property
    def vocabulary(self) -> Vocabulary:
        """The words behind the ids."""
        if self._vocabulary is None:
            raise RuntimeError("WordTokenizer: no vocabulary yet; give one, or call fit(captions)")
        return self._vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of words, the specials included."""
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        """Id of ``<pad>``."""
        return self.vocabulary[PAD]

    @property
    def mask_id(self) -> int | None:
        """Id of ``<mask>``."""
        return self.vocabulary[MASK]

    @property
    def unknown_id(self) -> int:
        """Id of ``<unk>``."""
        return self.vocabulary[UNKNOWN]

    def unknown_share(self, texts: Sequence[str]) -> float | None:
        """Share of the words of some texts that are not in the vocabulary; None for texts without words.

        Punctuation does not count: a full stop that is known says nothing of the words before it.
        """
        words = [word for text in texts for word in self.words(text) if any(map(str.isalnum, word))]
        return sum(word not in self.vocabulary for word in words) / len(words) if words else None

    def unknown_words(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text that are not in the vocabulary, each of them once; punctuation does not count."""
        known = self.vocabulary
        split = [dict.fromkeys(self.words(text)) for text in texts]
        return [[word for word in words if any(map(str.isalnum, word)) and word not in known] for words in split]

    @property
    def special_ids(self) -> frozenset[int]:
        """``<pad>``, ``<start>``, ``<end>`` and ``<mask>``; an ``<unk>`` is a word of the text."""
        return frozenset(self.vocabulary[word] for word in (PAD, START, END, MASK))
