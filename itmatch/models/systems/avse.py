"""AVSE: asymmetric visual semantic embedding, as a composition of blocks.

Source: Liu et al., "Asymmetric Visual Semantic Embedding Framework for Efficient Vision-Language Alignment", AAAI 2025,
and its public code, which has the form that reads photos.
"""

from __future__ import annotations

from typing import Any

from itmatch import nn
from itmatch.data import PhotoPatches
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text


def avse_regions_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    block_dim: int = 256,
    num_views: int = 2,
) -> MatchingModel:
    """AVSE on region features, with a bidirectional GRU over the words: our variant.

    A view of an image is some of its regions (:class:`~itmatch.nn.RegionViewEncoder`). ``block_dim`` is the width of
    the blocks that are compared; it divides ``embed_dim``. All other arguments are those of
    :mod:`itmatch.models.systems`.

    Example:
        >>> model = avse_regions_gru(100, region_dim=16, embed_dim=8, word_dim=4, block_dim=4)
        >>> model.similarity.widths
        [4]
    """
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, **_text_settings(embed_dim))
    return MatchingModel(_views(region_dim, embed_dim, num_views), text, nn.BlockSimilarity(block_dim), tokenizer)


def avse_regions_bert(
    model_name: str = "bert-base-uncased",
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    block_dim: int = 256,
    num_views: int = 2,
) -> MatchingModel:
    """AVSE on region features, with the text side of the public code; arguments as in :func:`avse_regions_gru`."""
    text, tokenizer = transformer_text(model_name, embed_dim, mlp=True, **_text_settings(embed_dim))
    return MatchingModel(_views(region_dim, embed_dim, num_views), text, nn.BlockSimilarity(block_dim), tokenizer)


def avse_vit(
    model_name: str = "bert-base-uncased",
    vision_name: str = "google/vit-base-patch16-224",
    *,
    embed_dim: int = 1024,
    block_dim: int = 256,
    num_views: int = 2,
    class_token: bool = True,
    **vision: Any,
) -> MatchingModel:
    """AVSE on photos: two views of the patches of a ViT, and BERT.

    The public code chooses the patches of a view before the ViT reads them; see :class:`~itmatch.nn.ViewEncoder`.
    ``vision_name`` is the name or local folder of a vision model of ``transformers``; ``class_token`` says whether it
    has one. ``vision`` are other settings of :class:`~itmatch.nn.TransformerImageEncoder`, such as ``lora``. All other
    arguments are those of :func:`avse_regions_gru`.
    """
    patches = nn.TransformerImageEncoder(vision_name, embed_dim, class_token=class_token, normalize=False, **vision)
    image = nn.ViewEncoder(patches, num_views, class_token=class_token)
    text, tokenizer = transformer_text(model_name, embed_dim, mlp=True, **_text_settings(embed_dim))
    return MatchingModel(image, text, nn.BlockSimilarity(block_dim), tokenizer, PhotoPatches(vision_name))


def _views(region_dim: int, embed_dim: int, num_views: int) -> nn.RegionViewEncoder:
    return nn.RegionViewEncoder(nn.RegionEncoder(region_dim, embed_dim, normalize=False), num_views)


def _text_settings(embed_dim: int) -> dict[str, Any]:
    return {"normalize": False, "pooling": nn.LayerNormPooling(nn.GeneralizedPooling(), embed_dim)}
