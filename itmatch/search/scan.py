"""The exact search: every row is scored, block by block, and the best are kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.evaluation.top_k import TopK
from itmatch.nn import HardAligningSimilarity, Similarity
from itmatch.ops.ragged import Ragged
from itmatch.search.collection import Collection
from itmatch.search.engines import Proposal

_BLOCK = {False: 1 << 22, True: 1 << 24}  # numbers of stored fragments at a time: in float32, as they are stored
_VALUES = 1 << 20  # best products that are held until they are pooled
_SCORES = 1 << 22  # scores that are held until the best are chosen


@torch.no_grad()
def best_of(similarity: nn.Module, queries: Fragments, collection: Collection, k: int) -> TopK:
    """The k best rows of a collection for every query, by the scores of the similarity.

    Args:
        similarity: of the model.
        queries: fragments of N captions if the collection is of images, else of N images.
        collection: what is searched.
        k: answers per query.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    best, waiting = TopK(torch.zeros(len(queries), 0, dtype=torch.int64), torch.zeros(len(queries), 0)), _Waiting()
    for rows, scores in _scored(similarity, queries, collection):
        waiting.add(rows, scores)
        if waiting.size >= _SCORES:
            best = waiting.into(best, k)
    return waiting.into(best, k)


def _scored(similarity: nn.Module, queries: Fragments, collection: Collection) -> Iterator[tuple[slice, Tensor]]:
    """The scores (N, n) of all rows, block by block."""
    own = {"images": "words", "captions": "regions"}[collection.side]
    on_cpu = queries.features.device.type == "cpu"
    if type(similarity) is not HardAligningSimilarity or similarity.query != own or not on_cpu:
        for rows, block in blocks(collection, similarity):
            yield rows, scores_of(similarity, queries, block, collection)
        return
    step = max(1, _VALUES // max(1, queries.mask.numel()))
    for rows, part in collection.parts():
        for start in range(0, len(part), step):
            few = part.select(slice(start, start + step))
            scores = _checked(similarity.score_rows(few, queries).T, collection)
            yield slice(rows.start + start, rows.start + start + len(few)), scores


def blocks(collection: Collection, similarity: nn.Module) -> Iterator[tuple[slice, Fragments]]:
    """All rows in blocks of bounded size, with what a similarity reads of them, in float32 or as they are stored."""
    half = isinstance(similarity, Similarity) and similarity.reads_half
    pooled = isinstance(similarity, Similarity) and similarity.reads_pooled and collection.has_vectors
    for rows, part in collection.parts():
        length = 1 if pooled else max(1, part.longest)
        size = max(1, _BLOCK[half] // (length * part.values.shape[1]))
        for start in range(0, len(part), size):
            stop = min(start + size, len(part))
            block = _vectors(part, slice(start, stop)) if pooled else part[start:stop]
            yield slice(rows.start + start, rows.start + stop), block if half else block.to(dtype=torch.float32)


def _vectors(part: Ragged, rows: slice) -> Fragments:
    """The vectors of rows, which also stand for their fragments: those are not read."""
    assert part.pooled is not None
    pooled = part.pooled[rows]
    return Fragments.unchecked(pooled[:, None], torch.ones(len(pooled), 1, dtype=torch.bool), pooled)


def wide(part: Ragged, rows: slice | Tensor) -> Fragments:
    """Some rows, padded, in float32."""
    return part[rows].to(dtype=torch.float32)


def scores_of(similarity: nn.Module, queries: Fragments, stored: Fragments, collection: Collection) -> Tensor:
    """(N, n) scores of queries with some rows of a collection.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    stored = stored.to(queries.features.device)
    if collection.side == "images":
        scores: Tensor = similarity(stored, queries).T
    else:
        scores = similarity(queries, stored)
    return _checked(scores.cpu(), collection)


def _checked(scores: Tensor, collection: Collection) -> Tensor:
    if not bool(torch.isfinite(scores.sum())) and not bool(torch.isfinite(scores).all()):
        raise ValueError(f"{collection.where}: a score is NaN or infinite; the index is damaged, or its model is")
    return scores


@torch.no_grad()
def rescored(
    similarity: nn.Module, queries: Fragments, collection: Collection, proposal: Proposal, k: int
) -> tuple[TopK, list[bool]]:
    """The k best of the rows that are proposed for each query, by the scores of the similarity.

    Returns:
        Them, row -1 and score -inf where fewer were proposed; and whether nothing else can be among them.
    """
    k = min(k, len(collection))
    rows, scores = torch.full((len(queries), k), -1), torch.full((len(queries), k), -torch.inf)
    exact: list[bool] = []
    for query, serials in enumerate(proposal.serials):
        known = np.sort(collection.rows_of(serials))
        found = torch.from_numpy(known[known >= 0])
        best = TopK(found[None], torch.zeros(1, 0))
        if len(found):
            stored = wide(collection.fragments(found), slice(None))
            best = first_best(scores_of(similarity, queries[query], stored, collection), k)
            best = TopK(found[best.indices], best.scores)
        count = best.scores.shape[1]
        rows[query, :count], scores[query, :count] = best.indices[0, :count], best.scores[0]
        bound = torch.inf if proposal.bounds is None else float(proposal.bounds[query])
        exact.append(len(found) == len(collection) or (count == k and float(scores[query, -1]) > bound))
    return TopK(rows, scores), exact


class _Waiting:
    """Scores of blocks from which the best have not been chosen yet."""

    def __init__(self) -> None:
        self.rows: list[slice] = []
        self.scores: list[Tensor] = []
        self.size = 0

    def add(self, rows: slice, scores: Tensor) -> None:
        self.rows.append(rows)
        self.scores.append(scores)
        self.size += scores.numel()

    def into(self, best: TopK, k: int) -> TopK:
        """The best of those that were chosen before and of these."""
        if not self.rows:
            return best
        scores = self.scores[0] if len(self.scores) == 1 else torch.cat(self.scores, 1)  # (N, n)
        found = first_best(scores, k)
        found = TopK(found.indices + self.rows[0].start, found.scores)
        self.rows, self.scores, self.size = [], [], 0
        return TopK(torch.cat((best.indices, found.indices), 1), torch.cat((best.scores, found.scores), 1)).best(k)


def first_best(scores: Tensor, k: int) -> TopK:
    """The k largest of (N, n) scores in each row, of equal ones the first: what a stable sort gives, much faster."""
    k = min(k, scores.shape[1])
    if k == 0:
        return TopK(torch.zeros(len(scores), 0, dtype=torch.int64), scores[:, :0])
    found = TopK(*reversed(scores.topk(k, 1)))
    least = found.scores[:, -1:]
    tied = ((scores >= least).sum(1) > k).nonzero()[:, 0].tolist()  # which of the equal ones it took is chance
    indices = found.indices.clone()
    for row in tied:
        above, equal = (scores[row] > least[row]).nonzero()[:, 0], (scores[row] == least[row]).nonzero()[:, 0]
        indices[row] = torch.cat((above, equal))[:k]
    indices = indices.sort(1).values
    return TopK(indices, scores.gather(1, indices)).best(k)
