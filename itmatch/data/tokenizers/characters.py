"""A tokenizer for texts without blanks between words: Chinese, Japanese, Thai, Khmer and others."""

from __future__ import annotations

import re

from itmatch.data.tokenizers.words import WordTokenizer

_NO_BLANKS = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao; Tibetan; Burmese; Khmer
    "\u3001-\u312f\u31f0-\u31ff\uff01-\uff9f"  # their punctuation, kana, Bopomofo, characters of full width
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_PIECES = re.compile(f"([{_NO_BLANKS}])|([^{_NO_BLANKS}]+)")


class CharacterTokenizer(WordTokenizer):
    """Every character of a writing without blanks is a word; the rest is split as :class:`WordTokenizer` does.

    It needs no dictionary and no pretrained model. :class:`HuggingFaceTokenizer` with a model of the language knows
    words, and mostly does better.

    Args:
        vocabulary: as in :class:`WordTokenizer`.
        min_count: characters and words rarer than this in the training captions become ``<unk>``.

    Example:
        >>> CharacterTokenizer().words("一只狗 runs。")
        ['一', '只', '狗', 'runs', '。']
    """

    def words(self, text: str) -> list[str]:
        """The characters and words of a text, without the frame."""
        words: list[str] = []
        for character, other in _PIECES.findall(text.lower()):
            words += [character] if character else super().words(other)
        return words
