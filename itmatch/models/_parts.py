"""What several named compositions share."""

from __future__ import annotations

from itmatch.data import Vocabulary, WordTokenizer
from itmatch.nn import ImplicitRelationAttention, Relation


def word_tokenizer(vocabulary: int | list[str] | Vocabulary) -> tuple[int, WordTokenizer | None]:
    """Number of words, and the tokenizer for strings if the words themselves are known."""
    if isinstance(vocabulary, int):
        return vocabulary, None
    words = list(vocabulary.words) if isinstance(vocabulary, Vocabulary) else vocabulary
    tokenizer = WordTokenizer(vocabulary=words)
    return tokenizer.vocab_size, tokenizer


def word_relations(embed_dim: int, *, attention: bool) -> list[Relation] | None:
    """Implicit relations of the words, if they are wanted."""
    return [ImplicitRelationAttention(embed_dim)] if attention else None
