"""LAPS: linguistic-aware patch slimming, as a composition of blocks.

Source: Fu et al., "Linguistic-Aware Patch Slimming Framework for Fine-grained Cross-Modal Alignment", CVPR 2024, and
its public code, which has the forms that read photos.
"""

from __future__ import annotations

from typing import Any

from itmatch import nn
from itmatch.data import PhotoPatches
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text


def laps_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 512,
    word_dim: int = 300,
    num_patches: int = 36,
    kept: float = 0.8,
    merged: float = 0.6,
    class_token: bool = False,
) -> MatchingModel:
    """LAPS on stored features of patches or regions, with a bidirectional GRU over the words: our variant.

    ``num_patches``, ``kept``, ``merged`` and ``class_token`` are those of
    :class:`~itmatch.nn.PatchSlimmingSimilarity`; 0.8 and 0.6 are published for Swin, which has no class token. All
    other arguments are those of :mod:`itmatch.models.systems`.

    Example:
        >>> model = laps_gru(100, region_dim=16, embed_dim=8, word_dim=4)
        >>> model.similarity.num_tokens
        17
    """
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim, normalize=False)
    similarity = nn.PatchSlimmingSimilarity(embed_dim, num_patches, kept, merged, class_token=class_token)
    return MatchingModel(nn.RegionEncoder(region_dim, embed_dim, normalize=False), text, similarity, tokenizer)


def laps_bert(
    model_name: str = "bert-base-uncased",
    *,
    region_dim: int = 2048,
    embed_dim: int = 512,
    num_patches: int = 36,
    kept: float = 0.8,
    merged: float = 0.6,
    class_token: bool = False,
) -> MatchingModel:
    """LAPS on stored features of patches or regions, with a pretrained text model; arguments as in :func:`laps_gru`."""
    text, tokenizer = transformer_text(model_name, embed_dim, normalize=False)
    similarity = nn.PatchSlimmingSimilarity(embed_dim, num_patches, kept, merged, class_token=class_token)
    return MatchingModel(nn.RegionEncoder(region_dim, embed_dim, normalize=False), text, similarity, tokenizer)


def laps_vit(
    model_name: str = "bert-base-uncased",
    vision_name: str = "google/vit-base-patch16-224",
    *,
    embed_dim: int = 512,
    num_patches: int = 196,
    kept: float = 0.5,
    merged: float = 0.4,
    class_token: bool = True,
    **vision: Any,
) -> MatchingModel:
    """LAPS as published: a ViT over the patches of a photo, and BERT.

    ``vision_name`` is the name or local folder of a vision model of ``transformers``; another one than a ViT has its
    own ``num_patches``, and perhaps no class token. ``vision`` are other settings of
    :class:`~itmatch.nn.TransformerImageEncoder`, such as ``lora``. All other arguments are those of :func:`laps_gru`.
    """
    image = nn.TransformerImageEncoder(vision_name, embed_dim, class_token=class_token, normalize=False, **vision)
    text, tokenizer = transformer_text(model_name, embed_dim, normalize=False)
    similarity = nn.PatchSlimmingSimilarity(embed_dim, num_patches, kept, merged, class_token=class_token)
    return MatchingModel(image, text, similarity, tokenizer, PhotoPatches(vision_name))


def laps_swin(
    model_name: str = "bert-base-uncased",
    vision_name: str = "microsoft/swin-base-patch4-window7-224",
    *,
    embed_dim: int = 512,
    num_patches: int = 49,
    kept: float = 0.8,
    merged: float = 0.6,
    **vision: Any,
) -> MatchingModel:
    """LAPS as published: a Swin over the patches of a photo, and BERT; arguments as in :func:`laps_vit`."""
    if vision.pop("class_token", False):
        raise ValueError("class_token: a Swin has none; laps_vit takes other models")
    vision |= {"num_patches": num_patches, "kept": kept, "merged": merged, "class_token": False}
    return laps_vit(model_name, vision_name, embed_dim=embed_dim, **vision)
