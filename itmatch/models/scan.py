"""SCAN: stacked cross attention, as a composition of blocks.

Source: Lee et al., "Stacked Cross Attention for Image-Text Matching", ECCV 2018, and its public code.
"""

from __future__ import annotations

from typing import Literal

from itmatch.data import Vocabulary
from itmatch.models._parts import word_tokenizer
from itmatch.models.matching import MatchingModel
from itmatch.nn import CrossAttentionSimilarity, GRUTextEncoder, Pooling, RegionEncoder


def scan_gru(
    vocabulary: int | list[str] | Vocabulary,
    query: Literal["words", "regions"] = "words",
    *,
    pooling: Pooling | None = None,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
) -> MatchingModel:
    """SCAN with a bidirectional GRU; its ensemble is that of a model of each query.

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        query: ``"words"``: words attend to regions (t2i in the paper); ``"regions"``: regions attend to words (i2t).
        pooling: of the cosines; by default their mean (``AVG``). ``LSE`` is ``LogSumExpPooling(1 / 6)`` for words, and
            ``1 / 5`` on Flickr30K or ``1 / 20`` on COCO for regions.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
    """
    size, tokenizer = word_tokenizer(vocabulary)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim),
        text_encoder=GRUTextEncoder(size, embed_dim, word_dim=word_dim),
        similarity=CrossAttentionSimilarity(query, pooling=pooling),
        tokenizer=tokenizer,
    )
