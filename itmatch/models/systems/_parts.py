"""The text sides that the systems share: an encoder, and the tokenizer that goes with it."""

from __future__ import annotations

from typing import Any, TypeAlias

from itmatch.data import HuggingFaceTokenizer, Vocabulary, WordTokenizer
from itmatch.nn import GRUTextEncoder, ImplicitRelationAttention, Relation, TransformerTextEncoder

Words: TypeAlias = int | list[str] | Vocabulary


def gru_text(
    vocabulary: Words, embed_dim: int, word_dim: int, **settings: Any
) -> tuple[GRUTextEncoder, WordTokenizer | None]:
    """A GRU over the words, and the tokenizer for strings if the words themselves are known."""
    tokenizer = None
    if not isinstance(vocabulary, int):
        words = list(vocabulary.words) if isinstance(vocabulary, Vocabulary) else vocabulary
        tokenizer = WordTokenizer(vocabulary=words)
    size = vocabulary if tokenizer is None else tokenizer.vocab_size
    return GRUTextEncoder(size, embed_dim, word_dim=word_dim, **settings), tokenizer


def transformer_text(
    model_name: str, embed_dim: int, **settings: Any
) -> tuple[TransformerTextEncoder, HuggingFaceTokenizer]:
    """A pretrained transformer and a linear layer over the words, and its tokenizer."""
    return TransformerTextEncoder(model_name, embed_dim, **settings), HuggingFaceTokenizer(model_name)


def word_relations(embed_dim: int, *, attention: bool) -> list[Relation] | None:
    """Implicit relations of the words, if they are wanted."""
    return [ImplicitRelationAttention(embed_dim)] if attention else None
