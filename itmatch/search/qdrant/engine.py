"""Qdrant as a first stage of an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.messages import shown
from itmatch.nn import HardAligningSimilarity, MeanPooling, Similarity
from itmatch.ops.checks import check_above_zero, check_whole
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine, Proposal
from itmatch.search.qdrant.edge import EdgePoints
from itmatch.search.qdrant.kept import Kept
from itmatch.search.qdrant.points import Points, Settings
from itmatch.search.qdrant.server import ServerPoints
from itmatch.search.store.manifest import Side

_NUMBERS = 1 << 18  # of the vectors that are sent at a time
_REMOVED = 10_000  # points that are removed at a time
_MORE = 4  # times as many points are asked for where too few are rows of the index
_ROUNDING = 1e-4  # of scores, in a bound


class Qdrant(Engine):
    """Rows with the largest MaxSim, which `Qdrant <https://qdrant.tech>`_ finds: in this process, or on a server.

    Each image is a point whose vectors are its regions, each caption one whose vectors are its words; of models that
    compare one vector a side, that vector. The number of a point is the serial of its row. MaxSim is hard alignment
    with a sum over the fragments of the query, so that for texts that look for images it orders as
    ``HardAligningSimilarity("words", MeanPooling())`` does. For other similarities it is a stand-in, whose worth
    :meth:`Index.recall <itmatch.search.Index.recall>` measures: the model scores what Qdrant proposes.

    What lies in Qdrant is brought up to date in every commit. A build makes collections of its own, with a new name:
    those of an index that was there before stay until :meth:`drop`.

    Args:
        path: a folder, for Qdrant in this process; one process at a time has it open.
        url: of a server or a cluster, as ``http://localhost:6333``. The encoded images and captions are sent there. The
            environment variable ``QDRANT_API_KEY`` is its key, if it needs one.
        name: what the names of the collections begin with.
        int8: Qdrant compares a copy of the vectors in int8 first, a quarter of the size, and then the best in float32.
        oversampling: with ``int8``, how many times as many rows are compared in float32 as are proposed.
        graph: edges of each row in a graph (HNSW) that is walked instead of comparing every row; 0 = none. A large
            collection needs it, about 16; building it takes long.

    Attributes:
        client: a ``qdrant_client.QdrantClient`` of your own, set before the engine is used; None: one is made.

    Formula:
        ``MaxSim[i, t] = sum_w max_r v_r . t_w``
    """

    is_local: ClassVar[bool] = False

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        url: str | None = None,
        name: str = "itmatch",
        int8: bool = False,
        oversampling: float = 2.0,
        graph: int = 0,
    ) -> None:
        if (path is None) == (url is None):
            raise ValueError("Qdrant: give path=, a folder for Qdrant in this process, or url=, of a server")
        self.path, self.url = None if path is None else str(path), None if url is None else _checked(url)
        if not (name and name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise ValueError(f"name: {shown(name)}, expected letters, digits, - and _")
        self.name, self.int8 = name, int8
        self.oversampling = check_above_zero("oversampling", oversampling)
        self.graph = check_whole("graph", graph, 0)
        self.client: Any = None
        self._made: Points | None = None
        self._kept: dict[Side, Kept] = {}
        self._similarity: nn.Module = nn.Identity()

    @property
    def _points(self) -> Points:
        if self._made is None:
            settings = Settings(self.int8, self.oversampling, self.graph)
            if self.url is not None:
                self._made = ServerPoints(self.url, settings, self.client)
            else:
                self._made = EdgePoints(user_path(str(self.path)), settings)
        return self._made

    def write(
        self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module, previous: Path | None
    ) -> None:
        """Put what is new into Qdrant, and remove what was no longer there at the commit before.

        Rows that this commit deletes stay in Qdrant until the next one, since the commit may fail. What a failed
        commit put there goes, too.
        """
        kept = Kept.new(self.name) if previous is None else Kept.read(previous)
        try:
            for side, collection in collections.items():
                kept[side] = self._brought(kept[side], collection, similarity)
        except BaseException:
            if previous is None:
                self._drop(kept)
            raise
        Kept.write(folder, kept)

    def _brought(self, kept: Kept, collection: Collection, similarity: nn.Module) -> Kept:
        new = np.flatnonzero(~np.isin(collection.serials, kept.live))
        size, stored = kept.size, kept.held
        if size:  # what a failed commit put there has numbers after those of all rows
            after = int(kept.live[-1]) + 1 if len(kept.live) else 0
            stored = np.union1d(stored, np.array(self._points.numbers(kept.name, after), np.int64))
        elif len(new):
            self._points.drop(kept.name)  # a failed commit may have made it
        gone = np.setdiff1d(stored, np.union1d(kept.live, collection.serials[new]))
        by_vectors = _by_vectors(similarity, collection)
        for serials, vectors in _batches(collection, new, by_vectors):
            if not size:
                size = vectors[0].shape[1]
                self._points.create(kept.name, size)
            self._points.put(kept.name, serials, vectors)
        for start in range(0, len(gone), _REMOVED):
            self._points.remove(kept.name, gone[start : start + _REMOVED].tolist())
        if len(new) or len(gone):
            self._points.finish(kept.name)
        held = np.union1d(kept.live, collection.serials[new])
        return Kept(kept.name, size, held, collection.serials)

    def open(self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module) -> None:
        """See that what the index says of Qdrant is there.

        Raises:
            ConnectionError: no server answers.
            BlockingIOError: another process has the folder open.
            ValueError: a collection is not there, lacks points, or has vectors of another size.
        """
        kept = Kept.read(folder)
        for side, collection in collections.items():
            own = kept[side]
            if not own.size:
                continue
            points, size = self._points.found(own.name)
            where = f"{self.url or self.path}: collection {own.name!r}"
            wanted = _size_of(similarity, collection) or size
            if size != wanted:
                raise ValueError(f"{where} has vectors of size {size}, expected {wanted}")
            if points < len(own.live):  # deleted rows may have left Qdrant in a commit that failed
                raise ValueError(f"{where} has {points} points, expected {len(own.live)}; build the index again")
        self._kept, self._similarity = kept, similarity

    @torch.no_grad()
    def propose(self, side: Side, queries: Fragments, count: int) -> Proposal:
        """The rows with the largest MaxSim; with a bound where Qdrant compares every row and MaxSim is the score."""
        kept = self._kept[side]
        if not len(kept.live):
            return Proposal([kept.live] * len(queries), torch.full((len(queries),), -torch.inf))
        vectors = [_query(self._similarity, queries, row, kept.size) for row in range(len(queries))]
        serials, bounds = [], []
        for query, (numbers, scores) in zip(vectors, self._live(kept, vectors, count), strict=True):
            serials.append(numbers)
            last = scores[-1] / len(query) + _ROUNDING if len(numbers) == count else torch.inf
            bounds.append(-torch.inf if len(numbers) == len(kept.live) else last)
        known = Settings(self.int8, self.oversampling, self.graph).is_exact and _is_max_sim(self._similarity, side)
        return Proposal(serials, torch.tensor(bounds) if known else None)

    def _live(self, kept: Kept, vectors: list[Array], count: int) -> list[tuple[Array, Array]]:
        """The best rows of each query that the index has, and their MaxSim.

        Points of other commits may take their places: of one that failed, or of one after this index was opened. Then
        more points are asked for, until there are enough rows.
        """
        wanted = min(count, len(kept.live))
        limit = count + len(kept.held) - len(kept.live)  # rows that were deleted may take a place
        found: dict[int, tuple[Array, Array]] = {}
        waiting = list(range(len(vectors)))
        while waiting:
            answers = self._points.nearest(kept.name, [vectors[query] for query in waiting], limit)
            for query, (numbers, scores) in zip(waiting, answers, strict=True):
                serials = np.array(numbers, np.int64)
                own = np.flatnonzero(np.isin(serials, kept.live))[:count]
                if len(own) == wanted or len(serials) < limit:  # enough, or Qdrant has no more
                    found[query] = serials[own], np.array(scores)[own]
            waiting = [query for query in waiting if query not in found]
            limit *= _MORE
        return [found[query] for query in range(len(vectors))]

    def drop(self) -> None:
        """Remove the collections of the index that this engine was opened with; then the index has none."""
        self._drop(self._kept)
        self._kept = {}

    def _drop(self, kept: Mapping[Side, Kept]) -> None:
        for own in kept.values():
            self._points.drop(own.name)

    def close(self) -> None:
        """Let other processes open the folder."""
        if self._made is not None:
            self._made.close()


def _checked(url: str) -> str:
    """A URL without anything secret, since the index keeps it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url: {shown(url)}, expected http://HOST:PORT or https://HOST:PORT")
    if parts.username or parts.password or parts.query:
        raise ValueError("url: holds a password or settings, which the index would keep; set QDRANT_API_KEY instead")
    return url


def _by_vectors(similarity: nn.Module, collection: Collection) -> bool:
    return isinstance(similarity, Similarity) and similarity.reads_pooled and collection.has_vectors


def _size_of(similarity: nn.Module, collection: Collection) -> int | None:
    """The size of the vectors of a collection; None without rows."""
    if not len(collection):
        return None
    part = collection.fragments([0])
    values = part.pooled if _by_vectors(similarity, collection) and part.pooled is not None else part.values
    return values.shape[1]


def _batches(
    collection: Collection,
    rows: Array,
    by_vectors: bool,  # noqa: FBT001
) -> Iterator[tuple[list[int], list[Array]]]:
    """Serials and vectors (R, D) float32 of some rows, of bounded size."""
    if not len(rows):
        return
    first = collection.fragments(rows[:1]).values
    step = max(1, _NUMBERS // max(1, first.numel()))
    for start in range(0, len(rows), step):
        chosen = rows[start : start + step]
        part = collection.fragments(chosen)
        if by_vectors and part.pooled is not None:
            vectors: list[Tensor] = list(part.pooled.float()[:, None].unbind())
        else:
            lengths = part.lengths.tolist()
            vectors = [part.values[s : s + n].float() for s, n in zip(part.starts.tolist(), lengths, strict=True)]
        yield collection.serials[chosen].tolist(), [np.ascontiguousarray(each.numpy()) for each in vectors]


def _query(similarity: nn.Module, queries: Fragments, row: int, size: int) -> Array:
    """(Q, D) the vectors of a query."""
    vectors = queries.features[row][queries.mask[row]]
    if isinstance(similarity, Similarity) and similarity.reads_pooled and queries.pooled is not None:
        vectors = queries.pooled[row : row + 1]
    if vectors.shape[1] != size:
        raise ValueError(f"query {row}: fragments of size {vectors.shape[1]}, expected {size}")
    if not len(vectors) or not bool(torch.isfinite(vectors).all()):
        raise ValueError(f"query {row}: {'a NaN or an infinity in' if len(vectors) else 'no'} fragments")
    found: Array = vectors.float().cpu().numpy()
    return found


def _is_max_sim(similarity: nn.Module, side: Side) -> bool:
    """Whether MaxSim, divided by the number of fragments of the query, is the score of a similarity."""
    own = "words" if side == "images" else "regions"
    return (
        type(similarity) is HardAligningSimilarity  # a subclass may score otherwise
        and similarity.query == own
        and type(similarity.pooling) is MeanPooling
    )
