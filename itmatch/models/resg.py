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

from itmatch.data import HuggingFaceTokenizer, Vocabulary
from itmatch.models._parts import word_tokenizer
from itmatch.models.matching import MatchingModel
from itmatch.nn import (
    ClassEmbedding,
    GraphMatchingSimilarity,
    GRUTextEncoder,
    MeanPooling,
    RegionEncoder,
    TextualRelationGraph,
    TransformerTextEncoder,
    VisualRelationGraph,
)


def resg_gru(
    vocabulary: int | list[str] | Vocabulary,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    labels: ClassEmbedding | None = None,
    min_confidence: float = 0.3,
    relation_weight: float = 1.0,
    **graph: Any,
) -> MatchingModel:
    """ReSG with a bidirectional GRU over the words.

    Images need boxes and a scene graph. Captions without a graph of their own have relations of neighbouring words.

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
        labels: vectors of the regions' object classes; None = the features alone.
        min_confidence: smallest confidence of a visual relation; our choice.
        relation_weight: weight of the level of relations beside that of objects; our choice.
        graph: other settings of :class:`~itmatch.nn.VisualRelationGraph`, such as ``predicates``.

    Example:
        >>> model = resg_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> type(model.text_encoder.relations[0]).__name__
        'TextualRelationGraph'
    """
    size, tokenizer = word_tokenizer(vocabulary)
    return MatchingModel(
        image_encoder=_image_encoder(region_dim, embed_dim, labels, min_confidence=min_confidence, **graph),
        text_encoder=GRUTextEncoder(
            size,
            embed_dim,
            word_dim=word_dim,
            pooling=MeanPooling(),
            relations=[TextualRelationGraph(embed_dim)],
        ),
        similarity=GraphMatchingSimilarity(relation_weight=relation_weight),
        tokenizer=tokenizer,
    )


def resg_bert(
    model_name: str = "bert-base-uncased",
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    labels: ClassEmbedding | None = None,
    min_confidence: float = 0.3,
    relation_weight: float = 1.0,
    **graph: Any,
) -> MatchingModel:
    """ReSG with a pretrained transformer and a linear layer over the words.

    Args:
        model_name: name or local folder of a text model of ``transformers``.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        labels: as in :func:`resg_gru`; so are the arguments below.
        min_confidence: smallest confidence of a visual relation.
        relation_weight: weight of the level of relations.
        graph: other settings of the graph of the image.
    """
    return MatchingModel(
        image_encoder=_image_encoder(region_dim, embed_dim, labels, min_confidence=min_confidence, **graph),
        text_encoder=TransformerTextEncoder(
            model_name, embed_dim, pooling=MeanPooling(), relations=[TextualRelationGraph(embed_dim)]
        ),
        similarity=GraphMatchingSimilarity(relation_weight=relation_weight),
        tokenizer=HuggingFaceTokenizer(model_name),
    )


def _image_encoder(region_dim: int, embed_dim: int, labels: ClassEmbedding | None, **graph: Any) -> RegionEncoder:
    relation = VisualRelationGraph(embed_dim, **graph)
    return RegionEncoder(region_dim, embed_dim, pooling=MeanPooling(), relations=[relation], labels=labels)
