"""Qdrant in this process: a folder for each collection."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itmatch.formats.arrays import Array
from itmatch.formats.files import read_json
from itmatch.formats.messages import reason, shown
from itmatch.search.qdrant.points import LISTED, Points, Settings

_INDEXED = 10_000  # KB of vectors from which on int8 copies and graphs are made


class EdgePoints(Points):
    """Collections as folders, by ``qdrant-edge-py``; one process at a time has them open.

    Args:
        folder: of the collections.
        settings: of all of them.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        try:
            import qdrant_edge
        except ImportError as error:
            raise ImportError('Qdrant(path=...) needs qdrant-edge-py: pip install "itmatch[qdrant]"') from error
        self._qdrant: Any = qdrant_edge
        self.folder, self.settings = folder, settings
        self._shards: dict[str, Any] = {}

    def create(self, name: str, size: int) -> None:
        """Make the folder of a collection."""
        q, settings = self._qdrant, self.settings
        vectors = q.EdgeVectorParams(
            size=size,
            distance=q.Distance.Dot,
            multivector_config=q.MultiVectorConfig(q.MultiVectorComparator.MaxSim),
        )
        config = q.EdgeConfig(
            vectors=vectors,
            hnsw_config=q.HnswIndexConfig(m=settings.graph, ef_construct=100, full_scan_threshold=10_000),
            optimizers=q.EdgeOptimizersConfig(indexing_threshold=_INDEXED),
            quantization_config=q.ScalarQuantizationConfig(q.ScalarType.Int8) if settings.int8 else None,
        )
        (self.folder / name).mkdir(parents=True)
        self._shards[name] = q.EdgeShard.create(str(self.folder / name), config)

    def found(self, name: str) -> tuple[int, int]:
        """Points, and size of the vectors."""
        points = int(self._shard(name).count(self._qdrant.CountRequest()))
        path = self.folder / name / "edge_config.json"  # the library does not tell it otherwise
        size = read_json(path).get("vectors", {}).get("", {}).get("size")
        if type(size) is not int:
            raise ValueError(f"{path}: size of the vectors {shown(size)}, expected a whole number")
        return points, size

    def numbers(self, name: str, first: int) -> list[int]:
        """The numbers from one on."""
        found: list[int] = []
        place: int | None = first
        while place is not None:
            request = self._qdrant.ScrollRequest(offset=place, limit=LISTED, with_payload=False, with_vector=False)
            points, place = self._shard(name).scroll(request)
            found.extend(int(point.id) for point in points)
        return found

    def put(self, name: str, numbers: Sequence[int], vectors: Sequence[Array]) -> None:
        """Add points."""
        points = [self._qdrant.Point(number, each) for number, each in zip(numbers, vectors, strict=True)]
        self._shard(name).update(self._qdrant.UpdateOperation.upsert_points(points))

    def remove(self, name: str, numbers: Sequence[int]) -> None:
        """Remove points."""
        self._shard(name).update(self._qdrant.UpdateOperation.delete_points(list(numbers)))

    def finish(self, name: str) -> None:
        """Write all that is pending; int8 copies and graphs are made here."""
        self._shard(name).optimize()
        self._shard(name).flush()

    def nearest(self, name: str, queries: Sequence[Array], count: int) -> list[tuple[list[int], list[float]]]:
        """The best points of each query."""
        q, settings = self._qdrant, self.settings
        copies = q.QuantizationSearchParams(rescore=True, oversampling=settings.oversampling) if settings.int8 else None
        params = q.SearchParams(exact=settings.is_exact, quantization=copies)
        answers = []
        for query in queries:
            request = q.QueryRequest(limit=count, query=q.Query.Nearest(query.tolist()), params=params)
            hits = self._shard(name).query(request)
            answers.append(([int(hit.id) for hit in hits], [float(hit.score) for hit in hits]))
        return answers

    def drop(self, name: str) -> None:
        """Remove the folder of a collection."""
        shard = self._shards.pop(name, None)
        if shard is not None:
            shard.close()
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def close(self) -> None:
        """Let go of all folders."""
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()

    def _shard(self, name: str) -> Any:
        if name not in self._shards:
            folder = self.folder / name
            if not folder.is_dir():
                raise ValueError(f"{folder}: no such folder; was it removed, or is this another path?")
            try:
                self._shards[name] = self._qdrant.EdgeShard.load(str(folder))
            except Exception as error:  # the library raises nothing narrower
                if "WouldBlock" in str(error):
                    raise BlockingIOError(
                        f"{folder}: another process, or another Qdrant object, has it open; one may at a time"
                    ) from None
                raise ValueError(f"{folder}: no collection of Qdrant, or a damaged one ({reason(error)})") from None
        return self._shards[name]
