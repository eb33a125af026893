"""Hire: hybrid-modal interaction with multiple relational enhancements, as a composition of blocks.

Source: Ge, Chen, Xu, Tao, Wang and Jose, "Hire: Hybrid-modal Interaction with Multiple Relational Enhancements for
Image-Text Matching", 2024 (arXiv 2406.18579), the extension of CMSEI. We have its abstract; no code is public. Known
from there: implicit relations of the regions (self-attention) come before the explicit ones (spatial and semantic), so
that the model tolerates explicit relations that are wrong; the interaction of the two sides follows as in CMSEI; words
come from BERT and a linear layer. How each step is computed is our choice and stands in the blocks:
:class:`~itmatch.nn.ImplicitRelationAttention`, :class:`~itmatch.nn.SpatialSemanticGCN`,
:class:`~itmatch.nn.InteractiveSimilarity`. The published numbers belong to the authors' model, not to this one.
"""

from __future__ import annotations

from typing import Any

from itmatch.data import HuggingFaceTokenizer, Vocabulary
from itmatch.models._parts import word_relations, word_tokenizer
from itmatch.models.matching import MatchingModel
from itmatch.nn import (
    GRUTextEncoder,
    ImplicitRelationAttention,
    InteractiveSimilarity,
    RegionEncoder,
    SpatialSemanticGCN,
    TransformerTextEncoder,
)


def hire_bert(
    model_name: str = "bert-base-uncased",
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_attention: bool = False,
    min_confidence: float = 0.3,
    **graph: Any,
) -> MatchingModel:
    """Hire with a pretrained transformer and a linear layer over the words, as in the paper.

    Images need boxes and a scene graph, unless ``spatial=False`` or ``semantic=False`` is among the settings.

    Args:
        model_name: name or local folder of a text model of ``transformers``.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_attention: implicit relations of the words, too; our addition.
        min_confidence: smallest confidence of a semantic relation; our choice.
        graph: other settings of :class:`~itmatch.nn.SpatialSemanticGCN`, such as ``num_predicates``.
    """
    words = word_relations(embed_dim, attention=word_attention)
    relation = SpatialSemanticGCN(embed_dim, min_confidence=min_confidence, **graph)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, relations=[ImplicitRelationAttention(embed_dim), relation]),
        text_encoder=TransformerTextEncoder(model_name, embed_dim, relations=words),
        similarity=InteractiveSimilarity(),
        tokenizer=HuggingFaceTokenizer(model_name),
    )


def hire_gru(
    vocabulary: int | list[str] | Vocabulary,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    word_attention: bool = False,
    min_confidence: float = 0.3,
    **graph: Any,
) -> MatchingModel:
    """Hire with a bidirectional GRU over the words; our variant, beside :func:`itmatch.models.cmsei_gru`.

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
        word_attention: as in :func:`hire_bert`.
        min_confidence: as in :func:`hire_bert`.
        graph: as in :func:`hire_bert`.

    Example:
        >>> model = hire_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> [type(relation).__name__ for relation in model.image_encoder.relations]
        ['ImplicitRelationAttention', 'SpatialSemanticGCN']
    """
    size, tokenizer = word_tokenizer(vocabulary)
    words = word_relations(embed_dim, attention=word_attention)
    relation = SpatialSemanticGCN(embed_dim, min_confidence=min_confidence, **graph)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, relations=[ImplicitRelationAttention(embed_dim), relation]),
        text_encoder=GRUTextEncoder(size, embed_dim, word_dim=word_dim, relations=words),
        similarity=InteractiveSimilarity(),
        tokenizer=tokenizer,
    )
