"""A first stage of our own: every fragment is known by its nearest centroid, two bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from itmatch.batch import Fragments
from itmatch.formats.arrays import Array, open_array, save_array
from itmatch.nn import (
    AligningSimilarity,
    GraphMatchingSimilarity,
    HardAligningSimilarity,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
)
from itmatch.ops.checks import check_whole
from itmatch.ops.masking import lengths_to_mask
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine, Proposal
from itmatch.search.kmeans import centroids_of, nearest_of, sample_of, value_blocks
from itmatch.search.store.manifest import SIDES, Side

_MOST = 1 << 16  # centroids that two bytes can tell apart
_ROUNDING = 1e-4  # of scores, in a bound


class Centroids(Engine):
    """Approximate scores from the inner products of the query's fragments with centroids of all stored fragments.

    The stored fragments are grouped by k-means, and each keeps the number of its centroid: two bytes instead of two a
    dimension. A query is multiplied with the centroids alone; the products are looked up by number, then reduced and
    pooled as the model's similarity does with the fragments themselves. Of similarities that do not align hard this
    is a stand-in, whose worth :meth:`Index.recall <itmatch.search.Index.recall>` measures.

    Where the similarity aligns hard and pools by a mean, a maximum or a logarithm of exponentials, the distance of the
    fragments from their centroids bounds how far the true score is from this one.

    Args:
        centroids: of each side; at most a tenth of its fragments, and 65 536.
        sample: fragments that k-means sees.
        iterations: of k-means.
        seed: of the sample and of the first centroids: the same index gets the same centroids.

    Formula:
        ``a[i, w] = max_r c(r) . w``, and ``|a[i, w] - max_r r . w| <= max_r |r - c(r)| |w|``
    """

    def __init__(self, centroids: int = 2048, sample: int = 100_000, iterations: int = 8, seed: int = 0) -> None:
        self.centroids = check_whole("centroids", centroids)
        if centroids > _MOST:
            raise ValueError(f"centroids: {centroids}, expected {_MOST} or fewer")
        self.sample = check_whole("sample", sample)
        self.iterations = check_whole("iterations", iterations)
        self.seed = check_whole("seed", seed, 0)
        self._sides: dict[Side, _Coded] = {}
        self._similarity: nn.Module = nn.Identity()

    def write(
        self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module, previous: Path | None
    ) -> None:
        """Find the centroids, at the first time, and the nearest one of every fragment that is new."""
        for side, collection in collections.items():
            before = None if previous is None else _Coded.read(previous, side)
            coded = self._coded(collection, before)
            for name, array in coded.arrays().items():
                save_array(folder / f"{side}-{name}.npy", array)

    def _coded(self, collection: Collection, before: _Coded | None) -> _Coded:
        if before is None or not len(before.centroids):
            generator = torch.Generator().manual_seed(self.seed)
            sample = sample_of(collection, self.sample, generator)
            count = min(self.centroids, max(1, len(sample) // 10))
            found = centroids_of(sample, count, self.iterations, generator) if len(sample) else sample
            before = _Coded.none(found)
        return before.brought_to(collection)

    def open(self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module) -> None:
        """Read the centroids and the codes."""
        self._similarity = similarity
        self._sides = {side: _Coded.read(folder, side) for side in SIDES}
        for side, collection in collections.items():
            coded = self._sides[side]
            if coded.centroids.shape[1] != (collection.embed_dim or coded.centroids.shape[1]):
                raise ValueError(f"{folder}: centroids of size {coded.centroids.shape[1]}, not {collection.embed_dim}")

    @torch.no_grad()
    def propose(self, side: Side, queries: Fragments, count: int) -> Proposal:
        """The rows with the largest approximate scores."""
        coded, serials, bounds = self._sides[side], [], []
        if not len(coded.serials):
            return Proposal([coded.serials] * len(queries), torch.full((len(queries),), -torch.inf))
        rule = _Rule.of(self._similarity, side)
        for query in range(len(queries)):
            fragments = queries.features[query][queries.mask[query]].float().cpu()  # (Q, D)
            scores = rule.scores(coded, fragments)
            best = scores.topk(min(count, len(scores))).indices
            serials.append(coded.serials[best.numpy()])
            above = scores + (rule.slack or 0.0) * float(fragments.norm(dim=1).max()) * coded.radius
            above[best] = -torch.inf
            bounds.append(float(above.max()) + _ROUNDING if len(above) else -torch.inf)
        return Proposal(serials, None if rule.slack is None else torch.tensor(bounds))


@dataclass(frozen=True, eq=False)
class _Coded:
    """The fragments of a side by their centroids.

    Args:
        centroids: (C, D) float32.
        serials: (N,) of the rows.
        offsets: (N + 1,) where the codes of each row begin.
        codes: (K,) int32, the centroid of each fragment.
        radius: (N,) the largest distance of a fragment of the row from its centroid.
    """

    centroids: Tensor
    serials: Array
    offsets: Tensor
    codes: Tensor
    radius: Tensor

    @classmethod
    def none(cls, centroids: Tensor) -> _Coded:
        """No rows."""
        empty = torch.zeros(0, dtype=torch.int32)
        return cls(centroids, np.zeros(0, np.int64), torch.zeros(1, dtype=torch.int32), empty, torch.zeros(0))

    def brought_to(self, collection: Collection) -> _Coded:
        """The rows of a collection: those known keep their codes, new ones, which come last, get theirs."""
        last = int(self.serials[-1]) if len(self.serials) else -1
        known = int(np.searchsorted(collection.serials, last, side="right"))
        kept = np.flatnonzero(np.isin(self.serials, collection.serials[:known]))
        lengths = [self.offsets.diff()[kept]]
        whole = torch.from_numpy(np.repeat(np.isin(np.arange(len(self.serials)), kept), self.offsets.diff().numpy()))
        codes, radius = [self.codes[whole]], [self.radius[kept]]
        for values, sizes in value_blocks(collection, slice(known, len(collection))):
            nearest = nearest_of(values, self.centroids)
            away = (values - self.centroids[nearest]).norm(dim=1)
            row = torch.arange(len(sizes)).repeat_interleave(sizes)
            radius.append(torch.zeros(len(sizes)).scatter_reduce_(0, row, away, "amax"))
            codes.append(nearest.int())
            lengths.append(sizes)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(lengths).cumsum(0)])
        return _Coded(self.centroids, collection.serials, offsets.int(), torch.cat(codes), torch.cat(radius))

    def arrays(self) -> dict[str, Array]:
        """What is stored, by the names of files."""
        return {
            "centroids": self.centroids.numpy(),
            "serials": self.serials,
            "offsets": self.offsets.numpy(),
            "codes": self.codes.numpy().astype(np.uint16),
            "radius": self.radius.numpy(),
        }

    @classmethod
    def read(cls, folder: Path, side: Side) -> _Coded:
        """What :meth:`arrays` gave, checked."""
        kinds = {"centroids": "float32", "serials": "int64", "offsets": "int32", "codes": "uint16", "radius": "float32"}
        found: dict[str, Any] = {}
        for name, kind in kinds.items():
            path = folder / f"{side}-{name}.npy"
            found[name] = np.array(open_array(path, ndim=2 if name == "centroids" else 1, dtypes=[kind]))
        rows, where = len(found["serials"]), folder / side
        offsets, codes = found["offsets"], found["codes"]
        if len(offsets) != rows + 1 or len(found["radius"]) != rows or offsets[0] != 0 or offsets[-1] != len(codes):
            raise ValueError(f"{where}: codes, offsets and rows do not fit together")
        if (np.diff(offsets) < 1).any() or (np.diff(found["serials"]) <= 0).any():
            raise ValueError(f"{where}: offsets or numbers of rows do not rise")
        if len(codes) and int(codes.max()) >= len(found["centroids"]):
            raise ValueError(f"{where}: code {int(codes.max())} of {len(found['centroids'])} centroids")
        if not np.isfinite(found["centroids"]).all() or not (found["radius"] >= 0).all():
            raise ValueError(f"{where}: centroids or distances hold a NaN or an infinity")
        tensors = {name: torch.from_numpy(found[name]) for name in ("centroids", "offsets", "radius")}
        return cls(serials=found["serials"], codes=torch.from_numpy(codes.astype(np.int32)), **tensors)


@dataclass(frozen=True, eq=False)
class _Rule:
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
    def of(cls, similarity: nn.Module, side: Side) -> _Rule:
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
        bounded = hard and len(known) == len(slacks)
        return cls(found.get(own), found.get(other), sum(known) / len(known) if bounded else None)  # type: ignore[call-overload]

    def scores(self, coded: _Coded, fragments: Tensor) -> Tensor:
        """(N,) approximate scores of a query (Q, D) with all rows."""
        table = coded.centroids @ fragments.T  # (C, Q)
        parts: list[Tensor] = []
        if self.keys is not None:
            best = embedding_bag(coded.codes, table, coded.offsets[:-1], mode="max")  # (N, Q)
            parts.append(self.keys(best))
        if self.queries is not None:
            parts.append(_pooled(self.queries, table.amax(1), coded))
        return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) / 2


def _pooled(pooling: Pooling, values: Tensor, coded: _Coded) -> Tensor:
    """(N,) values (C,) of centroids, pooled over the fragments of each row."""
    codes, offsets = coded.codes, coded.offsets[:-1]
    if isinstance(pooling, MeanPooling):
        return embedding_bag(codes, values[:, None], offsets, mode="mean")[:, 0]
    lengths, found = coded.offsets.diff(), []
    for start in range(0, len(lengths), 1 << 14):
        mask = lengths_to_mask(lengths[start : start + (1 << 14)].long())
        padded = values.new_zeros(mask.shape)
        padded[mask] = values[codes[coded.offsets[start] : coded.offsets[min(start + (1 << 14), len(lengths))]]]
        found.append(pooling(padded, mask))
    return torch.cat(found)


def _slack(pooling: Pooling) -> float | None:
    if isinstance(pooling, (MeanPooling, MaxPooling)):
        return 1.0
    if isinstance(pooling, LogSumExpPooling):
        return 1.0 if pooling.scaled else 1 / pooling.temperature
    return None
