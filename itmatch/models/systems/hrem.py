"""HREM: relations among the instances of a batch, as a composition of blocks.

Source: Fu et al., "Learning Semantic Relationship Among Instances for Image-Text Matching", CVPR 2023, and its public
code. The relations are in training alone: they are its loss, :class:`~itmatch.losses.BatchRelationLoss`
(``itmatch presets hrem_bert_f30k``). What is trained is one vector an image and one a caption.
"""

from __future__ import annotations

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text


def hrem_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    num_heads: int = 16,
) -> MatchingModel:
    """HREM with a bidirectional GRU over the words.

    ``num_heads`` is that of the poolings, :class:`~itmatch.nn.TransformerPooling`; it divides ``embed_dim``. All other
    arguments are those of :mod:`itmatch.models.systems`.

    Example:
        >>> model = hrem_gru(100, region_dim=16, embed_dim=8, word_dim=4, num_heads=2)
        >>> type(model.text_encoder.pooling).__name__
        'TransformerPooling'
    """
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, pooling=nn.TransformerPooling(embed_dim, num_heads))
    return MatchingModel(_image_encoder(region_dim, embed_dim, num_heads), text, nn.CosineSimilarity(), tokenizer)


def hrem_bert(
    model_name: str = "bert-base-uncased", *, region_dim: int = 2048, embed_dim: int = 1024, num_heads: int = 16
) -> MatchingModel:
    """HREM with a pretrained transformer and a linear layer over the words; arguments as in :func:`hrem_gru`."""
    text, tokenizer = transformer_text(model_name, embed_dim, pooling=nn.TransformerPooling(embed_dim, num_heads))
    return MatchingModel(_image_encoder(region_dim, embed_dim, num_heads), text, nn.CosineSimilarity(), tokenizer)


def _image_encoder(region_dim: int, embed_dim: int, num_heads: int) -> nn.RegionEncoder:
    return nn.RegionEncoder(region_dim, embed_dim, mlp=True, pooling=nn.TransformerPooling(embed_dim, num_heads))
