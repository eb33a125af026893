"""DivE: sets of diverse embeddings, as a composition of blocks.

Source: Kim, Kim and Kwak, "Improving Cross-Modal Retrieval with Set of Diverse Embeddings", CVPR 2023, and its public
code.
"""

from __future__ import annotations

from typing import Any

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text


def dive_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    num_slots: int = 4,
    **slots: Any,
) -> MatchingModel:
    """DivE with a bidirectional GRU over the words: K vectors an image and K a caption, and their smooth Chamfer score.

    ``num_slots`` is K. ``slots`` are other settings of :class:`~itmatch.nn.SlotPooling`, the same on both sides, such
    as ``depth`` and ``head_dim``; the slots of the words know positions as well. All other arguments are those of
    :mod:`itmatch.models.systems`. The perceptron of the image side reads the features, as in VSE-infinity; in the
    public code it reads their projection.

    Example:
        >>> model = dive_gru(100, region_dim=16, embed_dim=8, word_dim=4, num_slots=3, head_dim=4)
        >>> model.image_encoder.slots.num_slots
        3
    """
    regions = nn.RegionEncoder(region_dim, embed_dim, mlp=True, normalize=False, pooling=nn.MaxPooling())
    words, tokenizer = gru_text(vocabulary, embed_dim, word_dim, normalize=False, pooling=nn.LastPooling())
    image = nn.SlotImageEncoder(regions, nn.SlotPooling(embed_dim, num_slots, **slots))
    text = nn.SlotTextEncoder(words, nn.SlotPooling(embed_dim, num_slots, **{"positions": "caption"} | slots))
    return MatchingModel(image, text, nn.SetSimilarity("smooth_chamfer"), tokenizer)
