"""Retrieval with any number of right answers on both sides: recalls, R-Precision and mAP@R from sparse positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from itmatch.evaluation.ranks import ScoreBlock, checked_block, slices
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.ops.checks import check_whole
from itmatch.ops.collectives import all_gather_ragged


@dataclass(frozen=True, eq=False)
class Relevance:
    """Which captions answer which images, and which images answer which captions, as pairs of places in a dataset.

    The two directions are lists of their own: benchmarks annotate some images and some captions, not pairs both ways.
    An image, or a caption, without positives is a candidate and no query.

    Args:
        image_to_text: (P, 2) int64, pairs (image, caption), different ones, in the order of the images.
        text_to_image: (Q, 2) int64, pairs (caption, image), different ones, in the order of the captions.

    Both may be given as numpy arrays.
    """

    image_to_text: Tensor
    text_to_image: Tensor

    def __post_init__(self) -> None:
        """Take arrays, and check shapes and types."""
        for name in ("image_to_text", "text_to_image"):
            pairs = as_tensor(f"Relevance.{name}", getattr(self, name))
            if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.is_floating_point() or pairs.dtype == torch.bool:
                found = f"{tuple(pairs.shape)} {pairs.dtype}"
                raise ValueError(f"Relevance.{name}: {found}, expected pairs of integers, (P, 2)")
            object.__setattr__(self, name, pairs.long())

    @classmethod
    def from_lists(
        cls, image_to_text: Mapping[int, Sequence[int]], text_to_image: Mapping[int, Sequence[int]]
    ) -> Relevance:
        """From the captions of each image and the images of each caption."""
        return cls(_pairs(image_to_text), _pairs(text_to_image))

    @classmethod
    def own(cls, caption_image: ArrayLike) -> Relevance:
        """Every caption (T,) with its one image."""
        image = as_tensor("caption_image", caption_image)
        pairs = torch.stack((image.long(), torch.arange(len(image), device=image.device)), 1)
        return cls(pairs[pairs[:, 0].argsort(stable=True)], pairs.flip(1))


def _pairs(lists: Mapping[int, Sequence[int]]) -> Tensor:
    pairs = [(query, answer) for query in sorted(lists) for answer in sorted(set(lists[query]))]
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


class RetrievedHits(NamedTuple):
    """The first places of each query's ranking; tensors or numpy arrays.

    Args:
        queries: (N,) int64, images or captions with positives, by their place in the dataset.
        hits: (N, K) bool, whether place k of the ranking holds a positive, the best place first; False beyond the end.
        counts: (N,) int64, positives of each query.
    """

    queries: Tensor
    hits: Tensor
    counts: Tensor

    def recall(self, k: int) -> float:
        """R@K in percent: queries with a positive among the first K places.

        Raises:
            ValueError: more places than were kept, or no query.
        """
        hits, _ = self._known()
        if not 1 <= k <= hits.shape[1]:
            raise ValueError(f"k: {k}, expected 1 to {hits.shape[1]}, the places that were kept of each ranking")
        return 100 * float(hits[:, :k].any(1).double().mean())

    def r_precision(self) -> float:
        """R-Precision in percent: positives among the first R places, R = number of positives."""
        hits, counts = self._known()
        return 100 * float((self._among_first_r(hits, counts).sum(1) / counts).double().mean())

    def map_at_r(self) -> float:
        """mAP@R in percent: precisions at those of the first R places that hold a positive, their sum over R."""
        hits, counts = self._known()
        return 100 * float(((_precision(hits) * self._among_first_r(hits, counts)).sum(1) / counts).mean())

    def mean_average_precision(self) -> float:
        """MAP in percent: precisions at every place that holds a positive, their sum over the number of positives.

        Positives beyond the places that were kept count as never found, so keep as many as there are candidates.
        """
        hits, counts = self._known()
        return 100 * float(((_precision(hits) * hits).sum(1) / counts).mean())

    def mean_inverse_negative_penalty(self) -> float:
        """MINP in percent: positives over the place of the last one; 0 where one is not among the places kept.

        Source:
            Ye et al., *Deep Learning for Person Re-identification: A Survey and Outlook*, TPAMI 2021.
        """
        hits, counts = self._known()
        places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
        last = (hits * places).amax(1)
        penalty = counts / last.clamp(min=1)
        return 100 * float(penalty.masked_fill(hits.sum(1) < counts, 0).double().mean())

    def _known(self) -> tuple[Tensor, Tensor]:
        hits, counts = as_tensor("hits", self.hits), as_tensor("counts", self.counts)
        if hits.ndim != 2 or hits.dtype != torch.bool or counts.shape != hits.shape[:1]:
            found = f"{tuple(hits.shape)} {hits.dtype} and {tuple(counts.shape)}"
            raise ValueError(f"hits, counts: {found}, expected (N, K) torch.bool and (N,)")
        if not len(hits):
            raise ValueError("hits: no query to average over")
        return hits, counts

    @staticmethod
    def _among_first_r(hits: Tensor, counts: Tensor) -> Tensor:
        if int(counts.max()) > hits.shape[1]:
            raise ValueError(f"{int(counts.max())} positives of a query, {hits.shape[1]} places were kept")
        return hits & (torch.arange(hits.shape[1], device=hits.device) < counts[:, None])


def _precision(hits: Tensor) -> Tensor:
    """Share of positives among the first 1, 2, ... places, (N, K) float64."""
    return hits.cumsum(1).double() / torch.arange(1, hits.shape[1] + 1, device=hits.device)


@torch.no_grad()
def streamed_hits(
    score_block: ScoreBlock,
    images: ArrayLike,
    captions: ArrayLike,
    relevance: Relevance,
    *,
    places: int = 10,
    chunk_size: int = 256,
    caption_chunk_size: int = 1024,
    across_processes: bool = False,
) -> tuple[RetrievedHits, RetrievedHits]:
    """The first places of the rankings of all queries, from blocks of scores; the matrix is never held.

    Kept are as many places as the query with most positives has, and ``places`` at least. Images and captions without
    positives come last and their common blocks are not scored. A tie counts against the model: among equal scores the
    positives come last.

    Args:
        score_block: takes int64 indices into ``images`` (B,) and into ``captions`` (C,), returns scores (B, C).
        images: (I,) places in the dataset of the images that are scored here.
        captions: (T,) places in the dataset of the captions.
        relevance: by places in the dataset. Positives that are not among the candidates count as never found.
        places: least number of places.
        chunk_size: largest number of images in a block.
        caption_chunk_size: largest number of captions in a block.
        across_processes: the images are spread over the processes, and each has all captions.

    Returns:
        Hits of images (of this process), and of captions.

    Raises:
        ValueError: a score is NaN or infinite, or a block has the wrong shape.
    """
    for name, value in (("places", places), ("chunk_size", chunk_size), ("caption_chunk_size", caption_chunk_size)):
        check_whole(name, value)
    images, captions = as_tensor("images", images).long(), as_tensor("captions", captions).long()
    sides = (
        _Side(images, captions, relevance.image_to_text, places),
        _Side(captions, images, relevance.text_to_image, places),
    )
    for columns in slices(len(captions), caption_chunk_size):
        chosen = sides[1].order[columns]
        for rows in slices(len(images), chunk_size):
            if not (sides[0].has_queries(rows) or sides[1].has_queries(columns)):
                continue
            block = score_block(sides[0].order[rows], chosen)
            block = checked_block(block, images[sides[0].order[rows]], captions[chosen]).double()
            sides[0].add(block, rows, columns, sides[1].order)
            sides[1].add(block.T, columns, rows, sides[0].order)
    return sides[0].result(across_processes=False), sides[1].result(across_processes=across_processes)


class _Side:
    """The queries of one direction, in the order in which they are scored: those with positives first.

    Args:
        queries: (Q,) places in the dataset.
        candidates: (C,) places in the dataset.
        pairs: (P, 2) places of queries and of their positives.
        places: least number of places that are kept.
    """

    def __init__(self, queries: Tensor, candidates: Tensor, pairs: Tensor, places: int) -> None:
        pairs = pairs.to(queries.device)
        most = int(torch.unique(pairs[:, 0], return_counts=True)[1].max()) if len(pairs) else 0
        self.queries = queries
        self.num_candidates = len(candidates)
        row, here = _places(pairs[:, 0], queries)
        row, pairs = row[here], pairs[here]
        counts = torch.bincount(row, minlength=len(queries))
        self.order = (counts == 0).to(torch.uint8).argsort(stable=True)
        self.with_positives = int((counts > 0).sum())
        self.counts = counts[self.order][: self.with_positives]
        column, found = _places(pairs[:, 1], candidates)
        position = torch.empty_like(self.order)
        position[self.order] = torch.arange(len(queries), device=queries.device)
        self.row, self.column = position[row[found]], column[found]  # of the positives, in the order of scoring
        by_row = self.row.argsort(stable=True)
        self.row, self.column = self.row[by_row], self.column[by_row]
        self.places = max(places, most)
        self._best: dict[int, tuple[Tensor, Tensor]] = {}

    def has_queries(self, rows: slice) -> bool:
        return int(rows.start) < self.with_positives

    def add(self, block: Tensor, rows: slice, columns: slice, candidates: Tensor) -> None:
        """Take the scores of the queries ``rows`` with the candidates ``columns`` of the order ``candidates``."""
        used = min(rows.stop, self.with_positives) - rows.start
        if used <= 0:
            return
        block = block[:used]
        first, last = torch.searchsorted(self.row, torch.tensor([rows.start, rows.start + used]).to(self.row)).tolist()
        where = torch.full((self.num_candidates,), -1, device=block.device)
        where[candidates[columns]] = torch.arange(columns.stop - columns.start, device=block.device)
        column = where[self.column[first:last]]
        row = self.row[first:last][column >= 0] - rows.start
        hit = torch.zeros(block.shape, dtype=torch.bool, device=block.device)
        hit[row, column[column >= 0]] = True
        lowered = torch.nextafter(block, block.new_tensor(-torch.inf))  # exact for float32: no float32 is in between
        key = torch.where(hit, lowered, block)
        if rows.start in self._best:
            key, hit = (torch.cat(both, 1) for both in zip(self._best[rows.start], (key, hit), strict=True))
        top = key.topk(min(self.places, key.shape[1]), dim=1)
        self._best[rows.start] = top.values, hit.gather(1, top.indices)

    def result(self, *, across_processes: bool) -> RetrievedHits:
        parts = [self._best[start] for start in sorted(self._best)]
        none = self.counts.new_empty(self.with_positives, min(self.places, self.num_candidates))  # without blocks
        keys = torch.cat([key for key, _ in parts]) if parts else none.double()
        hits = torch.cat([hit for _, hit in parts]) if parts else none.bool()
        if across_processes:  # each has the best of its own images
            keys, hits = _merged(keys, hits, self.places)
        hits = pad(hits, (0, self.places - hits.shape[1]))  # where there are fewer candidates than places
        return RetrievedHits(self.queries[self.order][: self.with_positives], hits, self.counts)


def _merged(keys: Tensor, hits: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """The best places of all processes together; each gives (N, k), with k of its own."""
    every_key = all_gather_ragged(keys.T.contiguous()).T  # (N, sum of k)
    every_hit = all_gather_ragged(hits.T.contiguous()).T
    top = every_key.topk(min(places, every_key.shape[1]), dim=1)
    return top.values, every_hit.gather(1, top.indices)


def _places(values: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of the values stands in ``among``, and whether it is there at all."""
    order = among.argsort()
    ranked = among[order]
    place = torch.searchsorted(ranked, values.contiguous()).clamp(max=max(0, len(ranked) - 1))
    if len(ranked) == 0:
        return place, torch.zeros_like(place, dtype=torch.bool)
    return order[place], ranked[place] == values
