"""SCAN: stacked cross attention, as a composition of blocks.

Source: Lee et al., "Stacked Cross Attention for Image-Text Matching", ECCV 2018, and its public code.
"""

from __future__ import annotations

from typing import Literal

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text


def scan_gru(
    vocabulary: Words,
    query: Literal["words", "regions"] = "words",
    *,
    pooling: nn.Pooling | None = None,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
) -> MatchingModel:
    """SCAN with a bidirectional GRU; its ensemble is that of a model of each query.

    ``query="words"``: words attend to regions (t2i in the paper); ``"regions"``: regions attend to words (i2t).
    ``pooling`` is that of the cosines, by default their mean (``AVG``). ``LSE`` is ``LogSumExpPooling(1 / 6)`` for
    words, and ``1 / 5`` on Flickr30K or ``1 / 20`` on COCO for regions. All other arguments are those of
    :mod:`itmatch.models.systems`.
    """
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim)
    similarity = nn.CrossAttentionSimilarity(query, pooling=pooling)
    return MatchingModel(nn.RegionEncoder(region_dim, embed_dim), text, similarity, tokenizer)
