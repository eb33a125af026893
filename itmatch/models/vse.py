"""VSE++ and VSE-infinity: one vector an image and one a caption, as compositions of blocks.

Source: Faghri et al., "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", BMVC 2018. Chen et al.,
"Learning the Best Pooling Strategy for Visual Semantic Embedding", CVPR 2021, and its public code.
"""

from __future__ import annotations

from itmatch.data import HuggingFaceTokenizer, Vocabulary
from itmatch.models._parts import word_tokenizer
from itmatch.models.matching import MatchingModel
from itmatch.nn import (
    CosineSimilarity,
    GeneralizedPooling,
    GRUTextEncoder,
    LastPooling,
    MeanPooling,
    RegionEncoder,
    TransformerTextEncoder,
)


def vse_pp_gru(
    vocabulary: int | list[str] | Vocabulary, *, region_dim: int = 2048, embed_dim: int = 1024, word_dim: int = 300
) -> MatchingModel:
    """VSE++: the projected mean of the regions, and the last state of a GRU over the words.

    The paper has a network's feature of the whole image; the mean of its regions stands for that, as in later work.

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
    """
    size, tokenizer = word_tokenizer(vocabulary)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, pooling=MeanPooling()),
        text_encoder=GRUTextEncoder(size, embed_dim, word_dim=word_dim, bidirectional=False, pooling=LastPooling()),
        similarity=CosineSimilarity(),
        tokenizer=tokenizer,
    )


def vse_infty_gru(
    vocabulary: int | list[str] | Vocabulary, *, region_dim: int = 2048, embed_dim: int = 1024, word_dim: int = 300
) -> MatchingModel:
    """VSE-infinity with a bidirectional GRU: generalized pooling of regions and of words.

    Args:
        vocabulary: as in :func:`vse_pp_gru`.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
    """
    size, tokenizer = word_tokenizer(vocabulary)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, mlp=True, pooling=GeneralizedPooling()),
        text_encoder=GRUTextEncoder(size, embed_dim, word_dim=word_dim, pooling=GeneralizedPooling()),
        similarity=CosineSimilarity(),
        tokenizer=tokenizer,
    )


def vse_infty_bert(
    model_name: str = "bert-base-uncased", *, region_dim: int = 2048, embed_dim: int = 1024
) -> MatchingModel:
    """VSE-infinity with a pretrained transformer over the words.

    Args:
        model_name: name or local folder of a text model of ``transformers``.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
    """
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, mlp=True, pooling=GeneralizedPooling()),
        text_encoder=TransformerTextEncoder(model_name, embed_dim, pooling=GeneralizedPooling()),
        similarity=CosineSimilarity(),
        tokenizer=HuggingFaceTokenizer(model_name),
    )
