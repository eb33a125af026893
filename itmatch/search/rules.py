"""How a similarity makes a score of inner products, for scores that are approximate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.nn import (
    AligningSimilarity,
    GraphMatchingSimilarity,
    HardAligningSimilarity,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
)
from itmatch.ops.masking import lengths_to_mask
from itmatch.ops.pairs.few import largest_of_runs
from itmatch.ops.ragged import at_places
from itmatch.search.store.manifest import Side


@dataclass(frozen=True, eq=False)
class Rule:
    """How a similarity reduces products of a query's fragments with those of a row.

    Args:
        keys: the stored fragments are searched by those of the query, whose values are pooled with this; or None.
        queries: the stored fragments search, and their values are pooled with this; or None.
        slack: how much a score changes at most where every product changes by 1; None = not known.
    """

    keys: Pooling | None
    queries: Pooling | None
    slack: float | None

    @classmethod
    def of(cls, similarity: nn.Module, side: Side) -> Rule:
        """The rule of a similarity for queries that look for a side."""
        if isinstance(similarity, GraphMatchingSimilarity):
            rule = cls.of(similarity.nodes, side)
            return cls(rule.keys, rule.queries, None)
        if not isinstance(similarity, AligningSimilarity):
            mean = MeanPooling()
            return cls(mean, None, None) if side == "images" else cls(None, mean, None)
        hard = isinstance(similarity, HardAligningSimilarity)
        words = similarity.pooling if hard else MeanPooling()
        regions = (similarity.region_pooling or words) if hard else MeanPooling()
        found = {query: {"words": words, "regions": regions}[query] for query in similarity.queries}
        own, other = ("words", "regions") if side == "images" else ("regions", "words")
        slacks = [_slack(pooling) for pooling in found.values()]
        known = [slack for slack in slacks if slack is not None]
        bounded = type(similarity) is HardAligningSimilarity and len(known) == len(slacks)  # a subclass may do more
        return cls(found.get(own), found.get(other), sum(known) / len(known) if bounded else None)  # type: ignore[call-overload]

    def scores(self, products: Tensor, lengths: Tensor, queries: Fragments) -> Tensor:
        """(N, n) scores of N queries with n consecutive rows.

        Args:
            products: (Q, k) of all real fragments of the queries with all fragments of the rows.
            lengths: (n,) fragments of each row.
            queries: whose products they are.
        """
        parts: list[Tensor] = []
        if self.keys is not None:
            best = at_places(largest_of_runs(products, lengths), queries.mask)  # (N, L, n)
            parts.append(self.keys(best.transpose(1, 2), queries.mask[:, None]))
        if self.queries is not None:
            of_query = torch.split(products, queries.mask.sum(1).tolist())
            best = torch.stack([own.amax(0) for own in of_query])  # (N, k)
            mask = lengths_to_mask(lengths)
            parts.append(self.queries(at_places(best, mask, 1), mask))
        return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) / 2


def _slack(pooling: Pooling) -> float | None:
    if isinstance(pooling, (MeanPooling, MaxPooling)):
        return 1.0
    if isinstance(pooling, LogSumExpPooling):
        return 1.0 if pooling.scaled else 1 / pooling.temperature
    return None
