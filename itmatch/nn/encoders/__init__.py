"""Encoders: regions or words in, fragments in the shared space out."""

from itmatch.nn.encoders.base import ImageEncoder, TextEncoder
from itmatch.nn.encoders.clip import ClipImageEncoder, ClipTextEncoder, patches_of, pixels_of
from itmatch.nn.encoders.gru import GRUTextEncoder, WordList
from itmatch.nn.encoders.region import RegionEncoder
from itmatch.nn.encoders.transformer import TransformerTextEncoder

__all__ = [
    "ClipImageEncoder",
    "ClipTextEncoder",
    "GRUTextEncoder",
    "ImageEncoder",
    "RegionEncoder",
    "TextEncoder",
    "TransformerTextEncoder",
    "WordList",
    "patches_of",
    "pixels_of",
]
