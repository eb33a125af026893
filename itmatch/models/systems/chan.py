"""CHAN: cross-modal hard aligning network, as a composition of blocks.

Source: Pan, Wu and Zhang, "Fine-Grained Image-Text Matching by Cross-Modal Hard Aligning Network", CVPR 2023, and its
public code.
"""

from __future__ import annotations

from itmatch import nn
from itmatch.models.matching import MatchingModel
from itmatch.models.systems._parts import Words, gru_text, transformer_text


def chan_gru(
    vocabulary: Words,
    *,
    region_dim: int = 2048,
    embed_dim: int = 1024,
    word_dim: int = 300,
    self_attention: bool = True,
) -> MatchingModel:
    """CHAN with a bidirectional GRU over the words; log-sum-exp pooling over words, as the public code has it.

    The published margin, 0.05, belongs to this form: ``HardNegativeTripletLoss(margin=0.05, warmup_epochs=1)``. The
    paper's formula has a factor 0.1 in front of the pooling (``LogSumExpPooling(scaled=True)``); the same margin is
    then 0.005.

    ``self_attention`` is attention among the regions, as in the published GRU model. All other arguments are those of
    :mod:`itmatch.models.systems`.
    """
    image = nn.RegionEncoder(region_dim, embed_dim, self_attention=self_attention)
    text, tokenizer = gru_text(vocabulary, embed_dim, word_dim)
    similarity = nn.HardAligningSimilarity("words", nn.LogSumExpPooling(temperature=0.1, scaled=False))
    return MatchingModel(image, text, similarity, tokenizer)


def chan_bert(model_name: str = "bert-base-uncased", *, region_dim: int = 2048, embed_dim: int = 1024) -> MatchingModel:
    """CHAN with a pretrained transformer over the words; mean pooling, and no attention among the regions.

    The arguments are those of :mod:`itmatch.models.systems`.
    """
    text, tokenizer = transformer_text(model_name, embed_dim)
    similarity = nn.HardAligningSimilarity("words", nn.MeanPooling())
    return MatchingModel(nn.RegionEncoder(region_dim, embed_dim), text, similarity, tokenizer)
