"""CHAN: cross-modal hard aligning network, as a composition of blocks.

Source: Pan, Wu and Zhang, "Fine-Grained Image-Text Matching by Cross-Modal Hard Aligning Network", CVPR 2023, and its
public code.
"""

from __future__ import annotations

from itmatch.data import HuggingFaceTokenizer, Vocabulary
from itmatch.models._parts import word_tokenizer
from itmatch.models.matching import MatchingModel
from itmatch.nn import (
    GRUTextEncoder,
    HardAligningSimilarity,
    LogSumExpPooling,
    MeanPooling,
    RegionEncoder,
    TransformerTextEncoder,
)


def chan_gru(
    vocabulary: int | list[str] | Vocabulary,
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

    Args:
        vocabulary: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes
            strings), or their number.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
        word_dim: size of the word vectors.
        self_attention: attention among the regions, as in the published GRU model.
    """
    size, tokenizer = word_tokenizer(vocabulary)
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim, self_attention=self_attention),
        text_encoder=GRUTextEncoder(size, embed_dim, word_dim=word_dim),
        similarity=HardAligningSimilarity(query="words", pooling=LogSumExpPooling(temperature=0.1, scaled=False)),
        tokenizer=tokenizer,
    )


def chan_bert(model_name: str = "bert-base-uncased", *, region_dim: int = 2048, embed_dim: int = 1024) -> MatchingModel:
    """CHAN with a pretrained transformer over the words; mean pooling, and no attention among the regions.

    Args:
        model_name: name or local folder of a text model of ``transformers``.
        region_dim: size F of the region features.
        embed_dim: size D of the common space.
    """
    return MatchingModel(
        image_encoder=RegionEncoder(region_dim, embed_dim),
        text_encoder=TransformerTextEncoder(model_name, embed_dim),
        similarity=HardAligningSimilarity(query="words", pooling=MeanPooling()),
        tokenizer=HuggingFaceTokenizer(model_name),
    )
