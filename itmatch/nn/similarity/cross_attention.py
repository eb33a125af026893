"""Stacked cross attention: each word against the regions that it attends to, or the other way round."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.pooling import MeanPooling, Pooling
from itmatch.nn.similarity.aligning import AligningSimilarity
from itmatch.ops.checks import check_above_zero
from itmatch.ops.pairs.attention import Normalization, attention_weights, check_normalization, cross_attention
from itmatch.ops.pairs.sides import Query

_PUBLISHED: dict[Query, float] = {"words": 1 / 9, "regions": 1 / 4}


class CrossAttentionSimilarity(AligningSimilarity):
    """SCAN: the cosine of each query fragment with what it attends to on the other side, pooled to the score.

    The attended vectors are never built: their cosines follow from inner products of fragments, so that the cost does
    not grow with ``I * T * D``.

    Args:
        query: ``"words"``: words attend to regions (t2i in the paper); ``"regions"``: regions attend to words (i2t);
            ``"both"``: the mean of the two scores.
        temperature: of the attention, the inverse of the lambda of the paper; None = as published, 1 / 9 for words
            and 1 / 4 for regions.
        normalization: of the inner products before the softmax, over the queries of each key: ``"clipped_l2norm"``
            (leaky ReLU with slope 0.1, then L2), ``"l2norm"``, ``"clipped_l1norm"``, ``"l1norm"``, ``"clipped"``,
            ``"softmax"`` or ``"no_norm"``.
        pooling: over the queries; by default :class:`~itmatch.nn.MeanPooling`. The ``LogSumExp`` of the public code is
            ``LogSumExpPooling(temperature=1 / lambda_lse, scaled=True)``, with lambda_lse = 6.
        chunk_size: images per block; by default one that fits the cache.

    Formula:
        ``S[i, t] = pool_w cos(t_w, sum_r β_rw v_r)``, ``β_rw = softmax_r(x_rw / temperature)``, ``x`` the normalised
        inner products; mirrored for regions.

    Source:
        Lee et al., "Stacked Cross Attention for Image-Text Matching", ECCV 2018, and its public code, with which
        the scores agree to 1e-5 for all its normalisations and aggregations.

    Example:
        >>> import torch
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> CrossAttentionSimilarity("words")(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        query: Literal["words", "regions", "both"] = "words",
        temperature: float | None = None,
        normalization: Normalization = "clipped_l2norm",
        pooling: Pooling | None = None,
        *,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(query, MeanPooling() if pooling is None else pooling, chunk_size=chunk_size)
        self.normalization = check_normalization(normalization)
        self.temperature = None if temperature is None else check_above_zero("temperature", temperature)

    def align_queries(self, image: Fragments, text: Fragments, query: Query) -> Tensor:
        """Cosine of every word (I, T, W) or region (I, T, R) with what it attends to."""
        return cross_attention(
            image.features,
            image.mask,
            text.features,
            text.mask,
            query=query,
            temperature=self.temperature or _PUBLISHED[query],
            normalization=self.normalization,
            chunk_size=self.chunk_size,
        )

    def align_pair(self, scores: Tensor, dim: int) -> Tensor:
        """The attention weights; they sum to 1 over the keys of each query."""
        query: Query = "words" if dim == 0 else "regions"
        temperature = self.temperature or _PUBLISHED[query]
        weights = attention_weights(scores.T[None, None], query, temperature, self.normalization)
        return weights[0, 0].T
