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

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text, word_relations


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

    ``word_attention`` adds implicit relations of the words; it is our addition. ``min_confidence`` is the smallest
    confidence of a semantic relation; its value is our choice. ``graph`` are other settings of
    :class:`~itmatch.nn.SpatialSemanticGCN`, such as ``num_predicates``. All other arguments are those of
    :mod:`itmatch.models.systems`.
    """
    image = _image_encoder(region_dim, embed_dim, min_confidence=min_confidence, **graph)
    relations = word_relations(embed_dim, attention=word_attention)
    text, tokenizer = transformer_text(model_name, embed_dim, relations=relations)
    return MatchingModel(image, text, nn.InteractiveSimilarity(), tokenizer)


def hire_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    word_attention: bool = False,
    min_confidence: float = 0.3,
    **graph: Any,
) -> MatchingModel:
    """Hire with a bidirectional GRU over the words; our variant, beside :func:`itmatch.models.cmsei_gru`.

    The arguments are those of :func:`hire_bert` and of :mod:`itmatch.models.systems`.

    Example:
        >>> model = hire_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> [type(relation).__name__ for relation in model.image_encoder.relations]
        ['ImplicitRelationAttention', 'SpatialSemanticGCN']
    """
    image = _image_encoder(region_dim, embed_dim, min_confidence=min_confidence, **graph)
    relations = word_relations(embed_dim, attention=word_attention)
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, relations=relations)
    return MatchingModel(image, text, nn.InteractiveSimilarity(), tokenizer)


def _image_encoder(region_dim: int, embed_dim: int, **graph: Any) -> nn.RegionEncoder:
    relations = [nn.ImplicitRelationAttention(embed_dim), nn.SpatialSemanticGCN(embed_dim, **graph)]
    return nn.RegionEncoder(region_dim, embed_dim, relations=relations)
