"""Hard aligning: each word is worth as much as its best region."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.pooling import LogSumExpPooling, Pooling
from itmatch.nn.similarity.aligning import AligningSimilarity
from itmatch.ops.masking import at_least_float32
from itmatch.ops.pairs.alignment import best_of_rows, hard_alignment
from itmatch.ops.pairs.sides import Query
from itmatch.ops.ragged import Ragged, at_places


class HardAligningSimilarity(AligningSimilarity):
    """CHAN: each query fragment takes its best partner of the other side; these products are pooled to the score.

    Args:
        query: ``"words"``: each word takes its best region; ``"regions"``: each region its best word; ``"both"``:
            the mean of the two scores.
        pooling: over the queries; by default :class:`~itmatch.nn.LogSumExpPooling` with temperature 0.1.
        region_pooling: with ``query="both"``, over the regions, if it is to differ from that over the words.
        chunk_size: images per block; by default one that fits the cache.

    Formula:
        ``S[i, t] = pool_w max_r v_r . t_w``

    Source:
        Pan, Wu and Zhang, "Fine-Grained Image-Text Matching by Cross-Modal Hard Aligning Network", CVPR 2023.

    Example:
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> HardAligningSimilarity()(image, text).shape
        torch.Size([3, 4])
    """

    reads_half = True

    def __init__(
        self,
        query: Literal["words", "regions", "both"] = "words",
        pooling: Pooling | None = None,
        region_pooling: Pooling | None = None,
        *,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(
            query, LogSumExpPooling() if pooling is None else pooling, region_pooling, chunk_size=chunk_size
        )

    def align_queries(self, image: Fragments, text: Fragments, query: Query) -> Tensor:
        """Best score of every word (I, T, W) or region (I, T, R)."""
        return hard_alignment(
            image.features, image.mask, text.features, text.mask, query=query, chunk_size=self.chunk_size
        )

    def score_rows(self, rows: Ragged, queries: Fragments) -> Tensor:
        """(J, N) scores of the stored rows of the side whose fragments are the keys, as :meth:`forward` gives them.

        What a search asks: nothing is padded, and nothing of the rows is copied but what is being multiplied.

        Args:
            rows: images if the words are the queries, captions if the regions are; one after the other, on the CPU.
            queries: N captions, or images; ``query="both"`` has no such side.
        """
        whole = bool(queries.mask.all())
        values = queries.features.flatten(0, 1) if whole else queries.features[queries.mask]
        best = best_of_rows(rows, at_least_float32(values))
        if whole:
            return at_least_float32(self.pooling(best.view(len(best), *queries.mask.shape)))
        return at_least_float32(self.pooling(at_places(best, queries.mask, 1), queries.mask[None]))

    def align_pair(self, scores: Tensor, dim: int) -> Tensor:
        """The scores of the winners; 0 elsewhere."""
        best = scores.argmax(dim, keepdim=True)
        return torch.zeros_like(scores).scatter(dim, best, scores.gather(dim, best))
