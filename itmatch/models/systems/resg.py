"""ReSG: relationship-enhanced semantic graphs, as a composition of blocks.

Source: Liu, He, Cheung, Xu and Wang, "Learning Relationship-Enhanced Semantic Graph for Fine-Grained Image-Text
Matching", IEEE Transactions on Cybernetics 54(2), 2024. We have its abstract, and no code is public. Known from there:
a graph encoder for images (VReG) and one for captions (TReG) encode concepts and their relations in a contextual order;
each node takes from its context; nodes are matched; training adds a center hinge loss and a positive-negative margin
loss to the triplet with the hardest negative (``itmatch presets resg_gru_f30k`` has the three as an
:class:`~itmatch.losses.Objective`). How each step is computed is our choice and stands in the blocks:
:class:`~itmatch.nn.VisualRelationGraph`, :class:`~itmatch.nn.TextualRelationGraph`,
:class:`~itmatch.nn.GraphMatchingSimilarity`. The published numbers belong to the authors' model, not to this one.
"""

from __future__ import annotations

from typing import Any

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text


def resg_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    labels: nn.ClassEmbedding | None = None,
    min_confidence: float = 0.3,
    relation_weight: float = 1.0,
    **graph: Any,
) -> MatchingModel:
    """ReSG with a bidirectional GRU over the words.

    Images need boxes and a scene graph. Captions without a graph of their own have relations of neighbouring words.

    ``labels`` are vectors of the regions' object classes; None = the features alone. ``min_confidence`` is the smallest
    confidence of a visual relation, ``relation_weight`` the weight of the level of relations beside that of objects;
    both values are our choice. ``graph`` are other settings of :class:`~itmatch.nn.VisualRelationGraph`, such as
    ``predicates``. All other arguments are those of :mod:`itmatch.models.systems`.

    Example:
        >>> model = resg_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> type(model.text_encoder.relations[0]).__name__
        'TextualRelationGraph'
    """
    image = _image_encoder(region_dim, embed_dim, labels, min_confidence=min_confidence, **graph)
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, **_text_settings(embed_dim))
    return MatchingModel(image, text, nn.GraphMatchingSimilarity(relation_weight=relation_weight), tokenizer)


def resg_bert(
    model_name: str = "bert-base-uncased",
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    labels: nn.ClassEmbedding | None = None,
    min_confidence: float = 0.3,
    relation_weight: float = 1.0,
    **graph: Any,
) -> MatchingModel:
    """ReSG with a pretrained transformer and a linear layer over the words; arguments as in :func:`resg_gru`."""
    image = _image_encoder(region_dim, embed_dim, labels, min_confidence=min_confidence, **graph)
    text, tokenizer = transformer_text(model_name, embed_dim, **_text_settings(embed_dim))
    return MatchingModel(image, text, nn.GraphMatchingSimilarity(relation_weight=relation_weight), tokenizer)


def _image_encoder(region_dim: int, embed_dim: int, labels: nn.ClassEmbedding | None, **graph: Any) -> nn.RegionEncoder:
    relation = nn.VisualRelationGraph(embed_dim, **graph)
    return nn.RegionEncoder(region_dim, embed_dim, pooling=nn.MeanPooling(), relations=[relation], labels=labels)


def _text_settings(embed_dim: int) -> dict[str, Any]:
    return {"pooling": nn.MeanPooling(), "relations": [nn.TextualRelationGraph(embed_dim)]}
