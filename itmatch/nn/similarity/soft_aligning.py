"""Soft aligning: each word against a softmax-weighted mixture of the regions."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.pooling import MeanPooling, Pooling
from itmatch.nn.similarity.aligning import AligningSimilarity
from itmatch.ops.checks import check_above_zero
from itmatch.ops.pairs.attention import soft_alignment
from itmatch.ops.pairs.sides import Query


class SoftAligningSimilarity(AligningSimilarity):
    """Each query fragment attends to the fragments of the other side; its mean products are pooled to the score.

    Args:
        temperature: of the softmax; towards 0 this becomes :class:`HardAligningSimilarity`.
        query: ``"words"``: words attend to regions; ``"regions"``: regions attend to words; ``"both"``: the mean of
            the two scores.
        pooling: over the queries; by default :class:`~itmatch.nn.MeanPooling`.
        region_pooling: with ``query="both"``, over the regions, if it is to differ from that over the words.
        normalize: divide by the length of the attended vector, so that a value is a cosine. The soft coding of
            CHAN's public code is ``query="regions", normalize=True``.
        chunk_size: images per block; by default one that fits the cache.

    Formula:
        ``p_rw = softmax_r(v_r . t_w / temperature)``, ``S[i, t] = pool_w sum_r p_rw v_r . t_w``, with ``normalize``
        each term over ``|sum_r p_rw v_r|``.

    Example:
        >>> import torch
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> SoftAligningSimilarity(temperature=0.1)(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        temperature: float = 0.1,
        query: Literal["words", "regions", "both"] = "words",
        pooling: Pooling | None = None,
        region_pooling: Pooling | None = None,
        *,
        normalize: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(query, MeanPooling() if pooling is None else pooling, region_pooling, chunk_size=chunk_size)
        self.temperature = check_above_zero("temperature", temperature)
        self.normalize = normalize

    def align_queries(self, image: Fragments, text: Fragments, query: Query) -> Tensor:
        """Value of every word (I, T, W) or region (I, T, R)."""
        return soft_alignment(
            image.features,
            image.mask,
            text.features,
            text.mask,
            temperature=self.temperature,
            query=query,
            normalize=self.normalize,
            chunk_size=self.chunk_size,
        )

    def align_pair(self, scores: Tensor, dim: int) -> Tensor:
        """The attention weights; they sum to 1 over the keys of each query."""
        return (scores / self.temperature).softmax(dim)
