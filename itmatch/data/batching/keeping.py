"""Leaving regions or tokens out of a batch: what stays moves together, and relations follow."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.batch import Captions, Regions, SceneGraph
from itmatch.ops.masking import lengths_to_mask


def places_of(kept: Tensor) -> tuple[Tensor, Tensor]:
    """Where what is kept of each row stands, in its order, and which of these places are real.

    Args:
        kept: (N, L) bool.

    Returns:
        Places (N, K) int64, 0 where there is nothing, and their mask (N, K).

    Example:
        >>> places_of(torch.tensor([[False, True, True], [True, False, False]]))[0].tolist()
        [[1, 2], [0, 0]]
    """
    mask = lengths_to_mask(kept.sum(1))
    places = torch.zeros(mask.shape, dtype=torch.int64)
    places[mask] = kept.nonzero()[:, 1]
    return places, mask


def keep_regions(regions: Regions, kept: Tensor) -> Regions:
    """Images without some of their regions; a relation that loses an end is left out.

    Args:
        regions: of a batch.
        kept: (I, R) bool, at least one region of each image; none of the padding.
    """
    places, mask = places_of(kept)
    return Regions.unchecked(
        moved(regions.features, places, mask),
        mask,
        None if regions.boxes is None else moved(regions.boxes, places, mask),
        None if regions.labels is None else moved(regions.labels, places, mask, -1),
        None if regions.graph is None else _kept_edges(regions.graph, kept),
    )


def keep_tokens(captions: Captions, kept: Tensor, pad_id: int) -> Captions:
    """Captions without some of their tokens; a relation that loses the token of its predicate goes on without.

    Args:
        captions: of a batch.
        kept: (T, W) bool, at least one token of each caption; none of the padding.
        pad_id: what fills up the captions.
    """
    places, mask = places_of(kept)
    graph = captions.graph
    if graph is not None:
        graph = _kept_edges(graph, kept)
        if graph.predicate is not None and graph.predicate.numel():
            stays = (graph.predicate >= 0) & kept[graph.row, graph.predicate]
            now = _new_places(kept)[graph.row, graph.predicate]
            graph.predicate = torch.where(stays, now, -1)
    return Captions.unchecked(moved(captions.input_ids, places, mask, pad_id), mask, graph)


def moved(values: Tensor, places: Tensor, mask: Tensor, fill: float = 0) -> Tensor:
    """Values (N, L, ...) of some places (N, K) of each row, and ``fill`` where the mask (N, K) has nothing."""
    found = values[torch.arange(len(places))[:, None], places]  # (N, K, ...)
    found[~mask] = fill
    return found


def _kept_edges(graph: SceneGraph, kept: Tensor) -> SceneGraph:
    """The edges of which both ends stay, between the new places."""
    alive = kept[graph.row, graph.edge_index].all(0)
    row = graph.row[alive]
    return SceneGraph.unchecked(
        _new_places(kept)[row, graph.edge_index[:, alive]],
        row,
        graph.num_rows,
        None if graph.predicate is None else graph.predicate[alive],
        None if graph.confidence is None else graph.confidence[alive],
    )


def _new_places(kept: Tensor) -> Tensor:
    """(N, L) where each of those that stay stands afterwards."""
    return kept.cumsum(1) - 1
