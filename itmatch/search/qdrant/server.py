"""Qdrant as a server or a cluster, by its network interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from itmatch.formats.arrays import Array
from itmatch.formats.messages import reason
from itmatch.search.qdrant.points import LISTED, Points, Settings

KEY = "QDRANT_API_KEY"
_TIMEOUT = 120  # seconds that a server may take for a request
_QUERIES = 16  # in one request

T = TypeVar("T")


class ServerPoints(Points):
    """Collections of a server, by ``qdrant-client``.

    Args:
        url: of the server.
        settings: of the collections that are made.
        client: a ``QdrantClient`` of your own; None: one is made for the URL.
    """

    def __init__(self, url: str, settings: Settings, client: Any = None) -> None:
        try:
            import qdrant_client
            from qdrant_client.http import exceptions
        except ImportError as error:
            raise ImportError('Qdrant(url=...) needs qdrant-client: pip install "itmatch[qdrant]"') from error
        self._models: Any = qdrant_client.models
        self._unreachable, self._refused = exceptions.ResponseHandlingException, exceptions.UnexpectedResponse
        self.url, self.settings = url, settings
        self._client: Any = client
        if client is None:
            self._client = qdrant_client.QdrantClient(
                url=url, api_key=os.environ.get(KEY), timeout=_TIMEOUT, check_compatibility=False
            )

    def create(self, name: str, size: int) -> None:
        """Make a collection."""
        m, settings = self._models, self.settings
        vectors = m.VectorParams(
            size=size,
            distance=m.Distance.DOT,
            on_disk=True,
            multivector_config=m.MultiVectorConfig(comparator=m.MultiVectorComparator.MAX_SIM),
        )
        int8 = m.ScalarQuantization(scalar=m.ScalarQuantizationConfig(type=m.ScalarType.INT8, always_ram=True))
        self._told(
            lambda: self._client.create_collection(
                name,
                vectors_config=vectors,
                hnsw_config=m.HnswConfigDiff(m=settings.graph),
                quantization_config=int8 if settings.int8 else None,
            )
        )

    def found(self, name: str) -> tuple[int, int]:
        """Points, and size of the vectors."""
        if not self._told(lambda: self._client.collection_exists(name)):
            raise ValueError(f"{self.url}: no collection {name!r}; was it removed, or is this another server?")
        vectors = self._told(lambda: self._client.get_collection(name)).config.params.vectors
        if not isinstance(vectors, self._models.VectorParams) or vectors.multivector_config is None:
            raise ValueError(f"{self.url}: collection {name!r} was not made by itmatch: it has no multivectors")
        return int(self._told(lambda: self._client.count(name, exact=True)).count), int(vectors.size)

    def numbers(self, name: str, first: int) -> list[int]:
        """The numbers from one on."""
        asked = partial(self._client.scroll, name, limit=LISTED, with_payload=False, with_vectors=False)
        found: list[int] = []
        place: int | None = first
        while place is not None:
            points, place = self._told(partial(asked, offset=place))
            found.extend(int(point.id) for point in points)
        return found

    def put(self, name: str, numbers: Sequence[int], vectors: Sequence[Array]) -> None:
        """Add points."""
        m = self._models
        points = [m.PointStruct(id=n, vector=each.tolist()) for n, each in zip(numbers, vectors, strict=True)]
        self._told(lambda: self._client.upsert(name, points, wait=True))

    def remove(self, name: str, numbers: Sequence[int]) -> None:
        """Remove points."""
        selector = self._models.PointIdsList(points=list(numbers))
        self._told(lambda: self._client.delete(name, selector, wait=True))

    def finish(self, name: str) -> None:
        """Nothing: the server has it on its disk, and makes int8 copies and graphs by itself."""

    def nearest(self, name: str, queries: Sequence[Array], count: int) -> list[tuple[list[int], list[float]]]:
        """The best points of each query."""
        m, settings = self._models, self.settings
        copies = m.QuantizationSearchParams(rescore=True, oversampling=settings.oversampling)
        params = m.SearchParams(exact=settings.is_exact, quantization=copies if settings.int8 else None)
        requests = [
            m.QueryRequest(query=query.tolist(), limit=count, params=params, with_payload=False) for query in queries
        ]
        answers = []
        for start in range(0, len(requests), _QUERIES):
            part = requests[start : start + _QUERIES]
            answers.extend(self._told(partial(self._client.query_batch_points, name, part)))
        return [([int(hit.id) for hit in one.points], [float(hit.score) for hit in one.points]) for one in answers]

    def drop(self, name: str) -> None:
        """Remove a collection."""
        self._told(lambda: self._client.delete_collection(name))

    def close(self) -> None:
        """Nothing: a connection is made for each request."""

    def _told(self, call: Callable[[], T]) -> T:
        """The answer to a request, or one line that says why there is none."""
        try:
            return call()
        except self._unreachable as error:
            raise ConnectionError(f"{self.url}: no answer of a Qdrant server ({reason(error)})") from None
        except self._refused as error:
            said = " ".join(error.content.decode("utf-8", "replace").split())[:200]
            what = f"; is {KEY} set and right?" if error.status_code in (401, 403) else ""
            raise ValueError(f"{self.url}: the Qdrant server refused with {error.status_code}: {said}{what}") from None
