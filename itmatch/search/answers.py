"""From the rows that were found to what a user gets."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from itmatch.batch import Fragments
from itmatch.evaluation.top_k import TopK
from itmatch.models import MatchingModel
from itmatch.ops.checks import check_whole
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine
from itmatch.search.hits import Hits
from itmatch.search.scan import wide

PAYS = 20_000  # rows from which on two stages are the default: below, scoring everything is fast enough
CANDIDATES = 1000
TOGETHER = (
    4  # queries from which on scoring everything is faster: they share one pass, and candidates are each one's own
)


def candidates_of(
    wanted: int | Literal["all"] | None,
    top: int,
    collection: Collection,
    model: MatchingModel,
    engine: Engine | None,
    queries: int,
) -> int | None:
    """How many rows a first stage proposes for a query; None = all rows are scored.

    Raises:
        ValueError: a number of candidates, and no first stage.
    """
    if wanted in (0, "all"):
        return None
    if wanted is None:
        by_vectors = model.similarity.reads_pooled and collection.has_vectors  # small rows: exact is cheap
        pays = engine is not None and len(collection) >= PAYS and not by_vectors and queries < TOGETHER
        return max(CANDIDATES, 10 * top) if pays else None
    if engine is None:
        raise ValueError(f"{collection.where}: candidates={wanted}: no first stage; build it with engine=Axes()")
    return max(top, check_whole("candidates", wanted))


def hits_of(
    collection: Collection,
    found: TopK,
    exact: list[bool],
    unknown: list[list[str]],
    alignments: list[list[Tensor]] | None,
) -> Hits:
    """The rows that were found, with their ids and what is to be shown; row -1 stands for none."""
    rows: list[list[int]] = [[row for row in line if row >= 0] for line in found.indices.tolist()]
    texts, pictures = collection.texts, collection.pictures
    return Hits(
        collection.side,
        [[collection.ids[row] for row in line] for line in rows],
        found.scores,
        found.indices,
        exact,
        unknown,
        None if texts is None else [[texts[row] for row in line] for line in rows],
        None if pictures is None else [[pictures[row] for row in line] for line in rows],
        alignments,
    )


def alignments_of(model: MatchingModel, queries: Fragments, collection: Collection, found: TopK) -> list[list[Tensor]]:
    """(R, W) of every query with each of its rows."""
    maps: list[list[Tensor]] = []
    for query, rows in enumerate(found.indices):
        own, stored = queries[query].cpu(), collection.fragments(rows[rows >= 0])
        maps.append([])
        for place in range(len(stored)):
            answer = wide(stored, slice(place, place + 1))
            pair = (answer, own) if collection.side == "images" else (own, answer)
            maps[-1].append(model.align(*(part.to(model.device) for part in pair)).cpu())
    return maps
