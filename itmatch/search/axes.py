"""A first stage of our own: every fragment is known by its places on a few axes, a byte each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.formats.arrays import Array, open_array, save_array
from itmatch.ops.checks import check_whole
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine, Proposal
from itmatch.search.rules import Rule
from itmatch.search.store.manifest import SIDES, Side

_ROUNDING = 1e-4  # of scores, in a bound
_SHRINKAGE = 0.03  # of the moments of the queries towards those of queries from everywhere
_LEVELS = 127
_FEW = 4  # times the size: fewer fragments of the other side than these do not weight the axes
_BLOCK = 1 << 18  # products, or numbers of codes, at a time: a core's cache holds them
_QUERIES = 96  # fragments of queries whose products are made at a time
_ROWS = 4096  # that are coded at a time


class Axes(Engine):
    """Approximate scores from a few numbers of each stored fragment, one byte each.

    Of each stored fragment its places on the main axes are kept. They are the axes on which fragments differ most *as
    queries see it*: differences are weighted by how much the fragments of the other side, of which queries are made,
    look in their direction. The products of a query with what is kept stand for those with the fragments; they are
    reduced and pooled as the model's similarity does. Of similarities that do not align hard this is a stand-in, whose
    worth :meth:`Index.recall <itmatch.search.Index.recall>` measures.

    An index without the other side (images without captions), or with little of it, has unweighted axes, and needs more
    of them. Axes are found when the index is built, and anew when a side has doubled since.

    Where the similarity aligns hard and pools by a mean, a maximum or a logarithm of exponentials, what is lost of the
    fragments bounds how far the true score is from this one.

    Args:
        axes: bytes that are kept of each fragment; at most its size.
        sample: fragments of each side from which the axes are found.

    Formula:
        With ``M = T Tᵀ`` the second moment of the other side, ``m`` the mean of the stored fragments and ``P`` the
        first principal axes of ``T (x - m)``: ``q . x ≈ q . m + (Pᵀ T⁻¹ q) . (Pᵀ T (x - m))``
    """

    def __init__(self, axes: int = 32, sample: int = 100_000) -> None:
        self.axes = check_whole("axes", axes)
        self.sample = check_whole("sample", sample)
        self._sides: dict[Side, _Coded] = {}
        self._similarity: nn.Module = nn.Identity()

    def write(
        self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module, previous: Path | None
    ) -> None:
        """Find the axes, at the first time and when a side has doubled, and the places of what is new on them."""
        for side, own in collections.items():
            other = collections["captions" if side == "images" else "images"]
            coded = None if previous is None else _Coded.read(previous, side)
            if coded is None or len(own) > 2 * coded.seen[0] or len(other) > 2 * coded.seen[1]:
                coded = _Coded.none(own, other, self.axes, self.sample)
            for name, array in coded.brought_to(own).arrays().items():
                save_array(folder / f"{side}-{name}.npy", array)

    def open(self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module) -> None:
        """Read the axes, and open the places on them."""
        self._similarity = similarity
        self._sides = {side: _Coded.read(folder, side) for side in SIDES}
        for side, collection in collections.items():
            coded, size = self._sides[side], len(self._sides[side].mean)
            if not np.array_equal(coded.serials, collection.serials):
                raise ValueError(
                    f"{folder}: codes of {len(coded.serials)} {side}, not of the {len(collection)} there are"
                )
            if size != (collection.embed_dim or size):
                raise ValueError(f"{folder}: axes of size {size}, not {collection.embed_dim}")

    @torch.no_grad()
    def propose(self, side: Side, queries: Fragments, count: int) -> Proposal:
        """The rows with the largest approximate scores."""
        coded, rule = self._sides[side], Rule.of(self._similarity, side)
        serials: list[Array] = []
        bounds: list[float] = []
        step = max(1, _QUERIES // max(1, queries.mask.shape[1]))
        for start in range(0, len(queries), step):
            part = queries[start : start + step].to("cpu", dtype=torch.float32)
            scores = torch.cat([torch.zeros(len(part), 0), *coded.scores(part, rule)], 1)  # (n, N)
            best = scores.topk(min(count, scores.shape[1])).indices
            serials.extend(coded.serials[own] for own in best.numpy())
            if rule.slack is not None:
                above = scores.add_(coded.slack(part), alpha=rule.slack).scatter_(1, best, -torch.inf)
                bounds.extend((above.amax(1) + _ROUNDING).tolist() if above.shape[1] else [-torch.inf] * len(part))
        return Proposal(serials, None if rule.slack is None else torch.tensor(bounds))


@dataclass(frozen=True, eq=False)
class _Coded:
    """The fragments of a side on their axes.

    Args:
        mean: (D,) of the fragments.
        inward: (D, A) from a fragment, less the mean, to its places.
        outward: (D, A) from places to fragments.
        seen: (2,) rows of this side, and of the other one, when the axes were found.
        serials: (N,) of the rows.
        offsets: (N + 1,) where the codes of each row begin.
        codes: (K, A) int8, the places of each fragment.
        lost: (N, 2) how long the longest is of what is lost of the fragments of the row: along the axes, and across.
    """

    mean: Tensor
    inward: Tensor
    outward: Tensor
    seen: Array
    serials: Array
    offsets: Array
    codes: Array
    lost: Tensor

    @cached_property
    def basis(self) -> Tensor:
        """(D, A) orthonormal, of what the places are of."""
        basis: Tensor = torch.linalg.qr(self.inward).Q
        return basis

    @classmethod
    def none(cls, own: Collection, other: Collection, axes: int, sample: int) -> _Coded:
        """No rows, and the axes of a collection for queries like the rows of another one."""
        size = own.embed_dim or other.embed_dim or 1
        stored, asking = (_sample(collection, sample) if len(collection) else None for collection in (own, other))
        if stored is None:
            stored = torch.zeros(1, size)
        if asking is not None and len(asking) < _FEW * size:
            asking = None  # a few captions say less than none: what they do not look at would be lost
        mean = stored.mean(0)
        inward, outward = _axes(stored - mean, torch.eye(size) if asking is None else asking, axes)
        seen = np.array([len(own), len(other)])
        codes = np.zeros((0, inward.shape[1]), np.int8)
        empty = np.zeros(0, np.int64)
        return cls(mean, inward, outward, seen, empty, np.zeros(1, np.int64), codes, torch.zeros(0, 2))

    def brought_to(self, collection: Collection) -> _Coded:
        """The rows of a collection: those known keep their codes, new ones, which come last, get theirs."""
        last = int(self.serials[-1]) if len(self.serials) else -1
        known = int(np.searchsorted(collection.serials, last, side="right"))
        kept = np.isin(self.serials, collection.serials[:known])
        sizes = np.diff(self.offsets)
        lengths, codes, lost = [sizes[kept]], [self.codes[np.repeat(kept, sizes)]], [self.lost[torch.from_numpy(kept)]]
        for start in range(known, len(collection), _ROWS):
            part = collection.fragments(slice(start, min(start + _ROWS, len(collection))))
            values = part.values.float() - self.mean
            places = (values @ self.inward).round_().clamp_(-_LEVELS, _LEVELS)
            lengths.append(part.lengths.numpy())
            codes.append(places.to(torch.int8).numpy())
            distances = torch.stack(_along_and_across(values - places @ self.outward.T, self.basis), 1)
            row = torch.arange(len(part)).repeat_interleave(part.lengths)[:, None].expand_as(distances)
            lost.append(torch.zeros(len(part), 2).scatter_reduce_(0, row, distances, "amax"))
        offsets = np.concatenate([[0], np.concatenate(lengths).cumsum()])
        found = np.concatenate(codes), torch.cat(lost)
        return _Coded(self.mean, self.inward, self.outward, self.seen, collection.serials, offsets, *found)

    def scores(self, queries: Fragments, rule: Rule) -> Iterator[Tensor]:
        """Approximate scores (n, rows) of n queries, block by block of the rows."""
        fragments = queries.features[queries.mask]
        heads, shift = fragments @ self.outward, (fragments @ self.mean)[:, None]
        lengths, codes = torch.from_numpy(np.diff(self.offsets)), torch.from_numpy(self.codes)
        longest = int(lengths.max()) if len(lengths) else 1
        step = max(1, _BLOCK // (longest * max(heads.shape)))
        for start in range(0, len(lengths), step):
            stop = min(start + step, len(lengths))
            part = codes[int(self.offsets[start]) : int(self.offsets[stop])].float()  # (k, A)
            yield rule.scores(torch.addmm(shift, heads, part.T), lengths[start:stop], queries)

    def slack(self, queries: Fragments) -> Tensor:
        """(n, N) how far a product of a query with a fragment of a row can be from that with the codes."""
        along, across = _along_and_across(queries.features, self.basis)  # (n, L)
        hidden = ~queries.mask
        longest = torch.stack([part.masked_fill(hidden, 0).amax(1) for part in (along, across)], 1)
        return longest @ self.lost.T

    def arrays(self) -> dict[str, Array]:
        """What is stored, by the names of files."""
        return {name: np.asarray(getattr(self, name)) for name in _KINDS}

    @classmethod
    def read(cls, folder: Path, side: Side) -> _Coded:
        """What :meth:`arrays` gave, checked; the codes are not read before they are needed."""
        found: dict[str, Any] = {}
        for name, (kind, ndim) in _KINDS.items():
            array = open_array(folder / f"{side}-{name}.npy", ndim=ndim, dtypes=[kind])
            found[name] = array if name == "codes" else np.array(array)
        rows, where = len(found["serials"]), folder / side
        offsets, lost, shape = found["offsets"], found["lost"], found["inward"].shape
        if len(offsets) != rows + 1 or lost.shape != (rows, 2) or offsets[0] != 0 or offsets[-1] != len(found["codes"]):
            raise ValueError(f"{where}: codes, offsets and rows do not fit together")
        sizes = (
            found["outward"].shape,
            (len(found["mean"]), found["codes"].shape[1]),
            (*found["seen"].shape, shape[1]),
        )
        if sizes != (shape, shape, (2, shape[1])) or not shape[1]:
            raise ValueError(f"{where}: axes and codes do not fit together")
        if (np.diff(offsets) < 1).any() or (np.diff(found["serials"]) <= 0).any():
            raise ValueError(f"{where}: offsets or numbers of rows do not rise")
        if (
            not all(np.isfinite(found[name]).all() for name in ("mean", "inward", "outward", "lost"))
            or (lost < 0).any()
        ):
            raise ValueError(f"{where}: axes or distances hold a NaN or an infinity, or a distance below 0")
        tensors = {name: torch.from_numpy(found[name]) for name in ("mean", "inward", "outward", "lost")}
        return cls(**found | tensors)


_KINDS = {
    "mean": ("float32", 1),
    "inward": ("float32", 2),
    "outward": ("float32", 2),
    "seen": ("int64", 1),
    "serials": ("int64", 1),
    "offsets": ("int64", 1),
    "codes": ("int8", 2),
    "lost": ("float32", 2),
}


def _axes(stored: Tensor, asking: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(D, A) from fragments with mean 0 to places of -127 to 127, and (D, A) back.

    Args:
        stored: (n, D) a sample, not empty.
        asking: (m, D) fragments as queries have them, not empty.
        count: A, at most D.
    """
    stored, asking = stored.double(), asking.double()
    moments, axes = torch.linalg.eigh(asking.T @ asking)
    moments = (moments.clamp(min=0) + _SHRINKAGE * moments.mean()).clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    weighting, back = (axes * moments) @ axes.T, (axes / moments) @ axes.T
    weighted = stored @ weighting
    main = torch.linalg.eigh(weighted.T @ weighted).eigenvectors.flip(1)[:, :count]  # (D, A)
    reach = (weighted @ main).abs().amax(0)
    unit = torch.where(reach > 0, reach / _LEVELS, 1)
    return (weighting @ main / unit).float(), (back @ main * unit).float()


def _along_and_across(values: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """How long values (..., D) are along the columns of an orthonormal basis (D, A), and across them."""
    inside = values @ basis
    return inside.norm(dim=-1), (values - inside @ basis.T).norm(dim=-1)


def _sample(collection: Collection, size: int) -> Tensor:
    """(n, D) about ``size`` fragments of a collection in float32, those of rows at equal distances."""
    some = collection.fragments(np.linspace(0, len(collection) - 1, min(len(collection), 100)).astype(np.int64))
    rows = min(len(collection), -(-size * len(some) // max(1, len(some.values))))
    return collection.fragments(np.linspace(0, len(collection) - 1, rows).astype(np.int64)).values.float()
