"""CMSEI: cross-modal semantic enhanced interaction, as a composition of blocks.

Source: Ge, Chen, Xu, Tao and Jose, "Cross-modal Semantic Enhanced Interaction for Image-Sentence Retrieval", WACV 2023
(arXiv 2210.08908). We have its abstract, and no code is public. Known from there: the regions are enhanced by relations
in a spatial and a semantic graph; then objects and words attend to each other and are aligned; then objects attend to
the sentence and words to the image. How each step is computed is our choice and stands in the blocks:
:class:`~itmatch.nn.SpatialSemanticGCN`, :class:`~itmatch.nn.InteractiveSimilarity`. The published numbers belong to the
authors' model, not to this one.
"""

from __future__ import annotations

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
    spatial: bool = True,
    semantic: bool = True,
    num_predicates: int | None = None,
    min_confidence: float = 0.3,
) -> MatchingModel:
    """CMSEI with a bidirectional GRU over the words.

    Images need boxes (``spatial``) and a scene graph (``semantic``).

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
        spatial: relations of regions that overlap.
        semantic: relations of the scene graph.
        num_predicates: kinds of semantic relations, told apart by learned factors; None = all are of one kind, as we
            read the paper.
        min_confidence: smallest confidence of a semantic relation, which is to be "high"; 0.3 is our choice.

    Example:
        >>> model = cmsei_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> type(model.image_encoder.relations[0]).__name__
        'SpatialSemanticGCN'
    """
    size, tokenizer = word_tokenizer(vocabulary)
    relation = SpatialSemanticGCN(
        embed_dim, spatial=spatial, semantic=semantic, num_predicates=num_predicates, min_confidence=min_confidence
    )
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
    spatial: bool = True,
    semantic: bool = True,
    num_predicates: int | None = None,
    min_confidence: float = 0.3,
) -> MatchingModel:
    """CMSEI with a pretrained transformer and a linear layer over the words.

    Args:
        model_name: name or local folder of a text model of ``transformers``.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        spatial: see :func:`cmsei_gru`; so are the arguments below.
        semantic: relations of the scene graph.
        num_predicates: kinds of semantic relations.
        min_confidence: smallest confidence of a semantic relation.
    """
    relation = SpatialSemanticGCN(
        embed_dim, spatial=spatial, semantic=semantic, num_predicates=num_predicates, min_confidence=min_confidence
    )
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, relations=[relation]),
        text_encoder=TransformerTextEncoder(model_name, embed_dim),
        similarity=InteractiveSimilarity(),
        tokenizer=HuggingFaceTokenizer(model_name),
    )
