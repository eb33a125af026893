"""VSE++ and VSE-infinity: one vector an image and one a caption, as compositions of blocks.

Source: Faghri et al., "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", BMVC 2018. Chen et al.,
"Learning the Best Pooling Strategy for Visual Semantic Embedding", CVPR 2021, and its public code.
"""

from __future__ import annotations

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text


def vse_pp_gru(
    vocabulary: Words, *, region_dim: int = 2048, embed_dim: int = 1024, word_dim: int = 300
) -> MatchingModel:
    """VSE++: the projected mean of the regions, and the last state of a GRU over the words.

    The paper has a network's feature of the whole image; the mean of its regions stands for that, as in later work.
    The arguments are those of :mod:`itmatch.models.systems`.
    """
    image = nn.RegionEncoder(region_dim, embed_dim, pooling=nn.MeanPooling())
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, bidirectional=False, pooling=nn.LastPooling())
    return MatchingModel(image, text, nn.CosineSimilarity(), tokenizer)


def vse_infty_gru(
    vocabulary: Words, *, region_dim: int = 2048, embed_dim: int = 1024, word_dim: int = 300
) -> MatchingModel:
    """VSE-infinity with a bidirectional GRU: generalized pooling of regions and of words.

    The arguments are those of :mod:`itmatch.models.systems`.
    """
    image = nn.RegionEncoder(region_dim, embed_dim, mlp=True, pooling=nn.GeneralizedPooling())
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, pooling=nn.GeneralizedPooling())
    return MatchingModel(image, text, nn.CosineSimilarity(), tokenizer)


def vse_infty_bert(
    model_name: str = "bert-base-uncased", *, region_dim: int = 2048, embed_dim: int = 1024
) -> MatchingModel:
    """VSE-infinity with a pretrained transformer over the words.

    The arguments are those of :mod:`itmatch.models.systems`.
    """
    image = nn.RegionEncoder(region_dim, embed_dim, mlp=True, pooling=nn.GeneralizedPooling())
    text, tokenizer = transformer_text(model_name, embed_dim, pooling=nn.GeneralizedPooling())
    return MatchingModel(image, text, nn.CosineSimilarity(), tokenizer)
