"""The base class of similarities that align first, and then pool over the queries."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.pooling import Pooling
from itmatch.nn.similarity.base import Similarity
from itmatch.ops.checks import check_choice, check_kind, check_kind_or_none, check_whole_or_none
from itmatch.ops.derivatives import wants_gradient
from itmatch.ops.masking import at_least_float32
from itmatch.ops.pairs.sides import Query
from itmatch.ops.ragged import Ragged

_TILE = 1 << 24  # aligned values held at a time when no gradient is wanted
_COPIED = 1 << 25  # numbers of captions that a tile may copy


class AligningSimilarity(Similarity):
    """Gives each query fragment one value for the whole other side, and pools these values to the score.

    A subclass says how: :meth:`align_queries` for all pairs, :meth:`align_pair` for a picture. Values are pooled, and
    scores returned, in at least float32.

    Args:
        query: fragments that get a value: the words, the regions, or both; then the two scores are averaged.
        pooling: over the words, and over the regions too unless ``region_pooling`` is given.
        region_pooling: over the regions; only with ``query="both"``.
        chunk_size: images per block, see :class:`Similarity`.
    """

    def __init__(
        self,
        query: Literal["words", "regions", "both"],
        pooling: Pooling,
        region_pooling: Pooling | None = None,
        *,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if region_pooling is not None and query != "both":
            raise ValueError(f'region_pooling goes with query="both", got query={query!r}; use pooling')
        self.query = check_choice("query", query, "words", "regions", "both")
        self.pooling = check_kind("pooling", pooling, Pooling)
        self.region_pooling = check_kind_or_none("region_pooling", region_pooling, Pooling)
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)

    @property
    def queries(self) -> tuple[Query, ...]:
        """What gets values: words, regions, or first the one and then the other."""
        return ("words", "regions") if self.query == "both" else (self.query,)

    @abstractmethod
    def align_queries(self, image: Fragments, text: Fragments, query: Query) -> Tensor:
        """Values (I, T, W) of the words, or (I, T, R) of the regions."""

    @abstractmethod
    def align_pair(self, scores: Tensor, dim: int) -> Tensor:
        """From the scores (R, W) of the real fragments of one pair to what is shown; keys run along ``dim``."""

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        if torch.compiler.is_compiling() or wants_gradient(image.features, text.features):
            return self._scores(image, text)
        scores = image.features.new_empty(len(image), len(text), dtype=_score_dtype(image, text))
        if scores.numel() == 0:
            return scores
        captions = Ragged.over(text.features, text.mask)
        regions, size = image.mask.shape[1], image.features.shape[2]

        def fits(rows: int, _: int, longest: int, __: int) -> bool:
            return rows * max(longest, regions) * len(image) <= _TILE and rows * longest * size <= _COPIED

        if fits(len(text), 0, text.mask.shape[1], 0):  # nothing is copied
            return self._scores(image, text)
        for rows in captions.blocks(fits):
            scores[:, rows.to(scores.device)] = self._scores(image, captions[rows])
        return scores

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """What links regions and words, (R, W), averaged over words and regions as queries where both are."""

        def mean_map(scores: Tensor) -> Tensor:
            return torch.stack([self.align_pair(scores, 0 if query == "words" else 1) for query in self.queries]).mean(
                0
            )

        return self.on_real_fragments(image, text, mean_map)

    def _scores(self, image: Fragments, text: Fragments) -> Tensor:
        scores: list[Tensor] = []
        for query in self.queries:
            values = at_least_float32(self.align_queries(image, text, query))
            if query == "words":
                score = self.pooling(values, text.mask[None])
            else:
                pooling = self.pooling if self.region_pooling is None else self.region_pooling
                score = pooling(values, image.mask[:, None])
            # a pooling of one's own may hold layers that autocast runs in half precision
            scores.append(at_least_float32(score))
        return scores[0] if len(scores) == 1 else (scores[0] + scores[1]) / 2


def _score_dtype(image: Fragments, text: Fragments) -> torch.dtype:
    return torch.promote_types(torch.promote_types(image.features.dtype, text.features.dtype), torch.float32)
