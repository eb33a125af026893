"""CMSEI: cross-modal semantic enhanced interaction, as a composition of blocks.

Source: Ge, Chen, Xu, Tao and Jose, "Cross-modal Semantic Enhanced Interaction for Image-Sentence Retrieval", WACV 2023
(arXiv 2210.08908). We have its abstract, and no code is public. Known from there: the regions are enhanced by relations
in a spatial and a semantic graph; then objects and words attend to each other and are aligned; then objects attend to
the sentence and words to the image. How each step is computed is our choice and stands in the blocks:
:class:`~itmatch.nn.SpatialSemanticGCN`, :class:`~itmatch.nn.InteractiveSimilarity`. The published numbers belong to the
authors' model, not to this one.
"""

from __future__ import annotations

from typing import Any

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text


def cmsei_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    min_confidence: float = 0.3,
    **graph: Any,
) -> MatchingModel:
    """CMSEI with a bidirectional GRU over the words.

    Images need boxes and a scene graph, unless ``spatial=False`` or ``semantic=False`` is among the settings.

    ``min_confidence`` is the smallest confidence of a semantic relation, which is to be "high"; 0.3 is our choice.
    ``graph`` are other settings of :class:`~itmatch.nn.SpatialSemanticGCN`. Its semantic relations are of one kind by
    default, as we read the paper; ``num_predicates`` tells them apart. All other arguments are those of
    :mod:`itmatch.models.systems`.

    Example:
        >>> model = cmsei_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> type(model.image_encoder.relations[0]).__name__
        'SpatialSemanticGCN'
    """
    relation = nn.SpatialSemanticGCN(embed_dim, min_confidence=min_confidence, **graph)
    image = nn.RegionEncoder(region_dim, embed_dim, relations=[relation])
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim)
    return MatchingModel(image, text, nn.InteractiveSimilarity(), tokenizer)


def cmsei_bert(
    model_name: str = "bert-base-uncased",
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    min_confidence: float = 0.3,
    **graph: Any,
) -> MatchingModel:
    """CMSEI with a pretrained transformer and a linear layer over the words; arguments as in :func:`cmsei_gru`."""
    relation = nn.SpatialSemanticGCN(embed_dim, min_confidence=min_confidence, **graph)
    image = nn.RegionEncoder(region_dim, embed_dim, relations=[relation])
    text, tokenizer = transformer_text(model_name, embed_dim)
    return MatchingModel(image, text, nn.InteractiveSimilarity(), tokenizer)
