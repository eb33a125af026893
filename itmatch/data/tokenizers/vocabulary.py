"""Words and their ids."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from itmatch.formats.files import existing_file, read_json, user_path, write_text
from itmatch.formats.messages import shown, shown_keys
from itmatch.formats.pickled_words import is_pickle, read_pickled_vocabulary

PAD, START, END, UNKNOWN, MASK = "<pad>", "<start>", "<end>", "<unk>", "<mask>"
SPECIALS = (PAD, START, END, UNKNOWN)


class Vocabulary:
    """A list of words; the place of a word is its id.

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
        self.words = list(words)
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
        """Read ``{"word2idx": {...}, "idx2word": {...}, "idx": n}``: SCAN's json, or the pickle of VSE++ and SCAN.

        Nothing that a pickle contains is run.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a key is missing, ids are not 0..n-1, or the parts disagree.
        """
        path = existing_file(path)
        content = read_pickled_vocabulary(path) if is_pickle(path) else read_json(path)
        for key, kind in (("word2idx", dict), ("idx2word", dict), ("idx", int)):
            if type(content.get(key)) is not kind:
                raise ValueError(f"{path}: no {key!r} ({kind.__name__}); keys there: {shown_keys(content)}")
        ids = content["word2idx"]
        size = len(ids)
        by_id = {index: word for word, index in ids.items() if type(index) is int and 0 <= index < size}
        if len(by_id) != size:
            missing = next(index for index in range(size) if index not in by_id)
            raise ValueError(
                f"{path}: word2idx has {size} words and none with id {missing}, expected ids 0..{size - 1}"
            )
        if content["idx"] != size:
            raise ValueError(f"{path}: idx is {shown(content['idx'])}, word2idx has {size} words")
        for index, word in by_id.items():
            if content["idx2word"].get(str(index)) != word:
                found = shown(content["idx2word"].get(str(index)))
                raise ValueError(f"{path}: idx2word[{index}] is {found}, word2idx says {shown(word)}")
        try:
            return cls([by_id[index] for index in range(size)])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_json(self, path: str | Path) -> None:
        """Write the form that :meth:`from_file` reads."""
        content = {
            "word2idx": self._ids,
            "idx2word": {str(index): word for index, word in enumerate(self.words)},
            "idx": len(self.words),
        }
        write_text(user_path(path), json.dumps(content, ensure_ascii=False))

    def __len__(self) -> int:
        return len(self.words)

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
