"""Encoders: regions or words in, fragments in the shared space out."""

from itmatch.nn.encoders.gru import GRUTextEncoder, WordList
from itmatch.nn.encoders.region import RegionEncoder
from itmatch.nn.encoders.transformer import TransformerTextEncoder
from itmatch.nn.encoders.vectors import load_word_vectors

__all__ = ["GRUTextEncoder", "RegionEncoder", "TransformerTextEncoder", "WordList", "load_word_vectors"]
