"""SGRAF: similarity graph reasoning (SGR) and attention filtration (SAF), as compositions of blocks.

Source: Diao et al., "Similarity Reasoning and Filtration for Image-Text Matching", AAAI 2021, and its public code.
"""

from __future__ import annotations

from itmatch.data import Vocabulary
from itmatch.models._parts import word_tokenizer
from itmatch.models.matching import MatchingModel
from itmatch.nn import (
    GlobalAttentionPooling,
    GRUTextEncoder,
    RegionEncoder,
    SimilarityHead,
    SimilarityReasoning,
    VectorSimilarity,
)


def sgraf_gru(
    vocabulary: int | list[str] | Vocabulary,
    head: SimilarityHead | None = None,
    *,
    positions: int | None = None,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
) -> MatchingModel:
    """SGR, or SAF, with a bidirectional GRU; the paper's SGRAF is the ensemble of a model of each.

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        head: :class:`~itmatch.nn.SimilarityReasoning` (SGR, the default) or
            :class:`~itmatch.nn.SimilarityFiltration` (SAF).
        positions: 36 for the published form, which takes images of exactly 36 regions; None takes any number.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
    """
    size, tokenizer = word_tokenizer(vocabulary)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim),
        text_encoder=GRUTextEncoder(size, embed_dim, word_dim=word_dim, dropout=0.4),
        similarity=VectorSimilarity(
            embed_dim,
            SimilarityReasoning() if head is None else head,
            None if positions is None else GlobalAttentionPooling(embed_dim, batch_norm=True, positions=positions),
        ),
        tokenizer=tokenizer,
    )
