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

from itmatch.data import HuggingFaceTokenizer, Vocabulary
from itmatch.models._parts import word_tokenizer
from itmatch.models.matching import MatchingModel
from itmatch.nn import (
    GRUTextEncoder,
    InteractiveSimilarity,
    RegionEncoder,
    SpatialSemanticGCN,
    TransformerTextEncoder,
)


def cmsei_gru(
    vocabulary: int | list[str] | Vocabulary,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    min_confidence: float = 0.3,
    **graph: Any,
) -> MatchingModel:
    """CMSEI with a bidirectional GRU over the words.

    Images need boxes and a scene graph, unless ``spatial=False`` or ``semantic=False`` is among the settings.

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
        min_confidence: smallest confidence of a semantic relation, which is to be "high"; 0.3 is our choice.
        graph: other settings of :class:`~itmatch.nn.SpatialSemanticGCN`. Its semantic relations are of one kind by
            default, as we read the paper; ``num_predicates`` tells them apart.

    Example:
        >>> model = cmsei_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> type(model.image_encoder.relations[0]).__name__
        'SpatialSemanticGCN'
    """
    size, tokenizer = word_tokenizer(vocabulary)
    relation = SpatialSemanticGCN(embed_dim, min_confidence=min_confidence, **graph)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, relations=[relation]),
        text_encoder=GRUTextEncoder(size, embed_dim, word_dim=word_dim),
        similarity=InteractiveSimilarity(),
        tokenizer=tokenizer,
    )


def cmsei_bert(
    model_name: str = "bert-base-uncased",
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    min_confidence: float = 0.3,
    **graph: Any,
) -> MatchingModel:
    """CMSEI with a pretrained transformer and a linear layer over the words.

    Args:
        model_name: name or local folder of a text model of ``transformers``.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        min_confidence: as in :func:`cmsei_gru`.
        graph: as in :func:`cmsei_gru`.
    """
    relation = SpatialSemanticGCN(embed_dim, min_confidence=min_confidence, **graph)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, relations=[relation]),
        text_encoder=TransformerTextEncoder(model_name, embed_dim),
        similarity=InteractiveSimilarity(),
        tokenizer=HuggingFaceTokenizer(model_name),
    )
