"""K-means of the fragments of a collection: its centroids, and the nearest one of each fragment."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itmatch.search.collection import Collection

_BLOCK = 1 << 22  # distances at a time


def centroids_of(sample: Tensor, count: int, iterations: int, generator: torch.Generator) -> Tensor:
    """(C, D) centroids of a sample (n, D); the same for the same generator.

    Args:
        sample: float32.
        count: C, at most n.
        iterations: of Lloyd's algorithm.
        generator: chooses the first centroids, and others where one has lost all its fragments.
    """
    centroids = sample[torch.randperm(len(sample), generator=generator)[:count]].clone()
    for _ in range(iterations):
        nearest = nearest_of(sample, centroids)
        sizes = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, sample)
        centroids = sums / sizes.clamp(min=1)[:, None]
        empty = (sizes == 0).nonzero()[:, 0]
        centroids[empty] = sample[torch.randint(len(sample), (len(empty),), generator=generator)]
    return centroids


def nearest_of(values: Tensor, centroids: Tensor) -> Tensor:
    """(K,) the nearest centroid of each of the values (K, D)."""
    half = centroids.square().sum(1) / 2
    step = max(1, _BLOCK // max(1, len(centroids)))
    blocks = [values[start : start + step] for start in range(0, len(values), step)]
    parts = [torch.addmm(half, block, centroids.T, alpha=-1).argmin(1) for block in blocks]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def sample_of(collection: Collection, size: int, generator: torch.Generator) -> Tensor:
    """(n, D) about ``size`` fragments of a collection in float32, those of rows that are drawn at random."""
    if not len(collection):
        return torch.zeros(0, collection.embed_dim or 1)
    length = max(1, len(collection.fragments([0]).values))
    rows = min(len(collection), -(-size // length))
    chosen = torch.randperm(len(collection), generator=generator)[:rows].sort().values
    return collection.fragments(chosen).values.float()


def value_blocks(collection: Collection, rows: slice) -> Iterator[tuple[Tensor, Tensor]]:
    """The fragments (K, D) of consecutive rows in float32, block by block, and how many each row has."""
    step = 4096
    for start in range(rows.start, rows.stop, step):
        part = collection.fragments(slice(start, min(start + step, rows.stop)))
        yield part.values.float(), part.lengths
