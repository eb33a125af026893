"""SGRAF: similarity graph reasoning (SGR) and attention filtration (SAF), as compositions of blocks.

Source: Diao et al., "Similarity Reasoning and Filtration for Image-Text Matching", AAAI 2021, and its public code.
"""

from __future__ import annotations

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text


def sgraf_gru(
    vocabulary: Words,
    head: nn.SimilarityHead | None = None,
    *,
    positions: int | None = None,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
) -> MatchingModel:
    """SGR, or SAF, with a bidirectional GRU; the paper's SGRAF is the ensemble of a model of each.

    ``head`` is :class:`~itmatch.nn.SimilarityReasoning` (SGR, the default) or
    :class:`~itmatch.nn.SimilarityFiltration` (SAF). ``positions`` is 36 for the published form, which takes images of
    exactly 36 regions; None takes any number. All other arguments are those of :mod:`itmatch.models.systems`.
    """
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, dropout=0.4)
    pooling = None
    if positions is not None:
        pooling = nn.GlobalAttentionPooling(embed_dim, batch_norm=True, positions=positions)
    similarity = nn.VectorSimilarity(embed_dim, nn.SimilarityReasoning() if head is None else head, pooling)
    return MatchingModel(nn.RegionEncoder(region_dim, embed_dim), text, similarity, tokenizer)
