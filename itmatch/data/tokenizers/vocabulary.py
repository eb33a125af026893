"""Words and their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from itmatch.formats.messages import shown
from itmatch.formats.vocabularies import read_vocabulary, write_vocabulary
from itmatch.ops.checks import check_several

PAD, START, END, UNKNOWN, MASK = "<pad>", "<start>", "<end>", "<unk>", "<mask>"
SPECIALS = (PAD, START, END, UNKNOWN)


class Vocabulary:
    """A list of words; the position of a word is its id.

    Args:
        words: different words, among them ``<pad>``, ``<start>``, ``<end>`` and ``<unk>``.

    Example:
        >>> vocabulary = Vocabulary.build([["a", "dog"], ["a", "cat"]], min_count=2)
        >>> vocabulary.words
        ['<pad>', '<start>', '<end>', '<unk>', 'a']
        >>> vocabulary.encode(["a", "dog"])
        [4, 3]
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(check_several("vocabulary", words))
        for index, word in enumerate(self.words):
            if not isinstance(word, str):
                raise ValueError(
                    f"vocabulary: word {index} is {word!r} of type {type(word).__name__}, expected a string"
                )
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for index, word in enumerate(self.words) if self._ids[word] != index)
            raise ValueError(f"vocabulary: {shown(twice)} comes twice")
        for special in SPECIALS:
            if special not in self._ids:
                raise ValueError(f"vocabulary: no {special} among its {len(self.words)} words")

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_count: int = 4) -> Vocabulary:
        """The specials, then words that come ``min_count`` times or more in tokenised captions, as they appear."""
        counts = Counter(word for caption in captions for word in caption)
        return cls(
            [*SPECIALS, *(word for word, count in counts.items() if count >= min_count and word not in SPECIALS)]
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Vocabulary:
        """Read a file of the form of the SCAN repository, see :func:`itmatch.formats.vocabularies.read_vocabulary`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a key is missing, ids are not 0..n-1, or the parts disagree.
        """
        words = read_vocabulary(path)
        try:
            return cls(words)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_json(self, path: str | Path) -> None:
        """Write the form that :meth:`from_file` reads."""
        write_vocabulary(path, self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and other.words == self.words

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words)"

    def __getitem__(self, word: str) -> int:
        """The id of a word, that of ``<unk>`` when it has none."""
        return self._ids.get(word, self._ids[UNKNOWN])

    def encode(self, words: Iterable[str]) -> list[int]:
        """The ids of words."""
        return [self[word] for word in words]

    def with_mask(self) -> Vocabulary:
        """This vocabulary, with ``<mask>`` appended unless it is there; ids of the other words stay."""
        return self if MASK in self else Vocabulary([*self.words, MASK])
