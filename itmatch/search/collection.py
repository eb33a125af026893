"""The images, or the captions, of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itmatch.batch import Regions, SceneGraph
from itmatch.data import Names
from itmatch.formats.arrays import Array
from itmatch.formats.messages import shown
from itmatch.ops.ragged import Ragged
from itmatch.search.store.columns import Shard, runs
from itmatch.search.store.manifest import Side

_AT_ONCE = 4096  # rows that are copied at a time
_SHORTEST = 64  # rows between gaps, on average, that are worth a part of their own


class Collection:
    """The images, or the captions, of an index, as they were when it was opened; nothing is read before it is needed.

    A *row* is a place in :attr:`ids`. A *serial* is a number that a row keeps, whatever is added and deleted.

    Args:
        side: images or captions.
        shards: where they lie.
        deleted: serials of rows that are no more.
        names: what classes and predicates are called.
        where: the index, for error messages.

    Attributes:
        names: as given.
        serials: (N,) of all rows, rising.
        embed_dim: size of the fragments; None without rows.
        has_vectors: whether the encoder makes a vector of each row.
        has_regions: whether what the model read of the images is kept.
    """

    def __init__(
        self, side: Side, shards: Sequence[Shard], deleted: Array, names: Names | None = None, where: str = "index"
    ) -> None:
        self.side, self.where = side, where
        self._shards, self.names = list(shards), Names() if names is None else names
        self._begins = np.cumsum([0, *(shard.rows for shard in shards)])
        everything = np.concatenate([shard.values["serial"] for shard in shards] or [np.zeros(0, np.int64)])
        if bool((np.diff(everything) <= 0).any()):
            raise ValueError(f"{self.where}: numbers of rows do not rise from shard to shard")
        self._places = np.flatnonzero(~np.isin(everything, deleted))  # of the rows, among all that are stored
        self.serials: Array = everything[self._places]
        kinds = {frozenset({"pooled", "is_relation"} & shard.values.keys()) for shard in shards}
        sizes = {shard.values[name].shape[1:] for shard in shards for name in ("features",)}
        pooled = {shard.values["pooled"].shape[1:] for shard in shards if "pooled" in shard.values}
        if max(len(kinds), len(sizes), len(pooled)) > 1:
            raise ValueError(f"{self.where}: shards with fragments of different kinds or sizes")
        self.has_vectors, self.has_regions = bool(pooled), any("regions" in shard.values for shard in shards)
        self.embed_dim: int | None = next(iter(sizes))[0] if sizes else None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)

    def __repr__(self) -> str:
        return f"Collection({len(self)} {self.side})"

    @cached_property
    def ids(self) -> list[str]:
        """Of every row."""
        return self._texts("ids")

    @cached_property
    def texts(self) -> list[str] | None:
        """Of every caption; None of images."""
        return None if self.side == "images" else self._texts("texts")

    @cached_property
    def pictures(self) -> list[str | None] | None:
        """Of every image: the path of a photo, an SVG drawing as text, or None; None of captions."""
        if self.side == "captions":
            return None
        every = [shard.texts("pictures") if "pictures" in shard.values else [""] * shard.rows for shard in self._shards]
        found = [text for texts in every for text in texts]
        return [found[place] or None for place in self._places]

    def position(self, name: str) -> int:
        """The row of an id.

        Raises:
            KeyError: there is no such id.
        """
        try:
            return self._rows[name]
        except KeyError:
            raise KeyError(f"{self.where}: no id {shown(name)} among {len(self)} {self.side}") from None

    @cached_property
    def _rows(self) -> dict[str, int]:
        rows = {name: row for row, name in enumerate(self.ids)}
        if len(rows) < len(self.ids):
            double = next(name for row, name in enumerate(self.ids) if rows[name] != row)
            raise ValueError(f"{self.where}: the id {shown(double)} comes twice")
        return rows

    def has(self, name: str) -> bool:
        """Whether there is such an id."""
        return name in self._rows

    def rows_of(self, serials: Array) -> Array:
        """The rows of some serials, -1 where a row is no more."""
        rows = np.searchsorted(self.serials, serials)
        inside = np.minimum(rows, max(0, len(self) - 1))
        here = self.serials[inside] == serials if len(self) else np.zeros(len(serials), bool)
        found: Array = np.where(here, rows, -1)
        return found

    def fragments(self, rows: slice | Sequence[int] | Tensor | Array | None = None) -> Ragged:
        """What the encoder made of some rows, in float16; None = of all. Consecutive rows of a shard are not copied."""
        chosen = self._places
        if isinstance(rows, slice):
            chosen = chosen[rows]
        elif rows is not None:
            wanted = np.asarray(rows)
            if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iub"):
                raise TypeError(f"{self.where}: rows {shown(rows)}, expected a slice or a list of numbers")
            chosen = chosen[wanted.astype(np.int64) if not wanted.size else wanted]
        parts = [self._part(shard, places) for shard, places in self._runs(chosen)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return self._nothing()
        return Ragged.cat(parts)

    def parts(self) -> Iterator[tuple[slice, Ragged]]:
        """The fragments of all rows in large parts, with the rows; few are copied where some were deleted."""
        start = 0
        for shard, every in self._runs(self._places):
            for places in _pieces(every):
                yield slice(start, start + len(places)), self._part(shard, places)
                start += len(places)

    def columns(self) -> Iterator[dict[str, Any]]:
        """All that is stored of all rows, in parts, by column: as a writer takes it."""
        for shard, every in self._runs(self._places):
            for rows in np.split(every, range(_AT_ONCE, len(every), _AT_ONCE)):
                yield shard.chosen(rows)

    def boxes(self, row: int) -> Tensor | None:
        """(R, 4) of the regions of an image, fractions of width and height; None where they are not known."""
        found = self._entries("boxes", row)
        if found is None or not len(found):
            return None
        if not np.isfinite(found).all():
            raise ValueError(f"{self.where}: boxes of {self.ids[row]!r} hold a NaN or an infinity")
        return torch.from_numpy(np.array(found))

    def labels(self, row: int) -> Tensor | None:
        """(R,) classes of the regions of an image, -1 = unknown; None where they are not known."""
        found = self._entries("labels", row)
        return None if found is None or not len(found) else torch.from_numpy(np.array(found))

    def scores(self, row: int) -> Tensor | None:
        """(R,) how sure a detector was of the regions of an image, in [0, 1]; None where that is not known."""
        found = self._entries("region_scores", row)
        return None if found is None or not len(found) else torch.from_numpy(np.array(found))

    def relations(self, row: int) -> list[tuple[int, str, int, float]] | None:
        """Relations of an image: region, predicate, region, weight; None where they are not known.

        A predicate without a name is "relation" and its number.
        """
        found = self._entries("relations", row)
        if found is None:
            return None
        scores = self._entries("relation_scores", row)
        weights = [1.0] * len(found) if scores is None or len(scores) != len(found) else scores.tolist()
        regions = len(self.fragments([row]).values)
        triples: list[list[int]] = found.tolist()
        if any(not (0 <= a < regions and 0 <= b < regions) for a, _, b in triples):
            raise ValueError(f"{self.where}: a relation of {self.ids[row]!r} names no region of its {regions}")
        return [
            (a, self.names.predicate(p) or "", b, weight) for (a, p, b), weight in zip(triples, weights, strict=True)
        ]

    def regions(self, row: int) -> Regions | None:
        """An image as the model read it, with its boxes, classes and relations.

        None where that is not kept, as ``Index.build(..., keep_regions=True)`` does; features were in float16 since.
        """
        features = self._entries("regions", row)
        if features is None:
            return None
        if not len(features):
            raise ValueError(f"{self.where}: no regions of {self.ids[row]!r}, expected what the model read of it")
        boxes, labels, table = self.boxes(row), self.labels(row), self._entries("relations", row)
        graph = None
        if table is not None:
            subjects, predicates, objects = torch.from_numpy(np.array(table)).unbind(1)
            scores = self._entries("relation_scores", row)
            confidence = None if scores is None else torch.from_numpy(np.array(scores))
            ends = torch.stack((subjects, objects))
            graph = SceneGraph(ends, torch.zeros_like(subjects), 1, predicates, confidence)
        return Regions(
            torch.from_numpy(np.asarray(features, np.float32))[None],
            boxes=None if boxes is None else boxes[None],
            labels=None if labels is None else labels[None],
            graph=graph,
        )

    def image_serials(self) -> Array:
        """Of every caption, the serial of the image that it describes, -1 = of none."""
        every = np.concatenate([shard.values["image"] for shard in self._shards] or [np.zeros(0, np.int64)])
        found: Array = every[self._places]
        return found

    def _entries(self, name: str, row: int) -> Array | None:
        if not hasattr(row, "__index__"):
            raise TypeError(f"{self.where}: row {shown(row)}, expected a number; position(id) gives that of an id")
        if not -len(self) <= row < len(self):
            raise IndexError(f"{self.where}: row {row} of {len(self)} {self.side}")
        place = int(self._places[row])
        number = int(np.searchsorted(self._begins, place, side="right")) - 1
        return self._shards[number].entries(name, place - int(self._begins[number]))

    def _texts(self, name: str) -> list[str]:
        every = [text for shard in self._shards for text in shard.texts(name)]
        return every if len(every) == len(self._places) else [every[place] for place in self._places]

    def _runs(self, places: Array) -> Iterator[tuple[Shard, Array]]:
        """Consecutive places that lie in one shard, with their rows in it."""
        numbers = np.searchsorted(self._begins, places, side="right") - 1
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        for part, number in zip(np.split(places, cuts), np.split(numbers, cuts), strict=True):
            if len(part):
                yield self._shards[number[0]], part - self._begins[number[0]]

    def _part(self, shard: Shard, rows: Array) -> Ragged:
        offsets, values = shard.offsets["features"], shard.values
        lengths = torch.from_numpy(offsets[rows + 1] - offsets[rows])
        fragments = runs(offsets, rows)
        found = {name: _tensor(values[name][fragments]) for name in ("features", "is_relation") if name in values}
        together = isinstance(fragments, slice)
        part = slice(int(rows[0]), int(rows[-1]) + 1) if together else rows
        pooled = _tensor(values["pooled"][part]) if "pooled" in values else None
        return Ragged(found["features"], lengths, lengths.cumsum(0) - lengths, pooled, found.get("is_relation"))

    def _nothing(self) -> Ragged:
        empty = torch.zeros(0, dtype=torch.int64)
        return Ragged(torch.zeros(0, self.embed_dim or 1, dtype=torch.float16), empty, empty)


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def _pieces(places: Array) -> list[Array]:
    """Rows of a shard cut where some are missing, so that none is copied; where that is at every turn, in blocks."""
    gaps = np.flatnonzero(np.diff(places) != 1) + 1
    few = len(gaps) * _SHORTEST <= len(places)
    return np.split(places, gaps if few else range(_AT_ONCE, len(places), _AT_ONCE))
