"""What a scene-graph detector would make of the scenes of :class:`itmatch.data.RelationScenes`.

Both twins are treated alike: the same edges are missing, wrong and uncertain, so that none of this tells them apart.
"""

from __future__ import annotations

import numpy as np

from itmatch.data.relation_scenes.sampling import Scenes
from itmatch.formats.arrays import Array


def corrupt_edges(
    scenes: Scenes,
    rng: np.random.Generator,
    wrong_rng: np.random.Generator,
    *,
    dropout: float,
    rewiring: float,
    wrong_edges: int,
    spread: float,
) -> tuple[Array, Array]:
    """(P, 2, K, 3) edges as they are detected and their (P, K) confidences; -1 where there are fewer.

    The draws do not depend on the rates, so a higher rate corrupts the edges that a lower one does, and more.
    """
    pairs, _, true, _ = scenes.edges.shape
    dropped, rewired, confidence, wrong_confidence = rng.random((4, pairs, true))  # each (P, K)
    is_rewired = rewired < rewiring
    present = scenes.edges >= 0  # (P, 2, K, 3)
    edges = np.where(is_rewired[:, None, :, None] & present, _first(scenes.spare_edges, true)[:, None], scenes.edges)
    edges = np.where((dropped < dropout)[:, None, :, None], -1, edges)
    scores = np.where(is_rewired, spread * wrong_confidence, 1 - spread * confidence)
    wrong = np.repeat(_first(scenes.spare_edges[:, true:], wrong_edges)[:, None], 2, 1)
    wrong_scores = spread * wrong_rng.random((wrong_edges, pairs)).T
    return np.concatenate([edges, wrong], 2), np.concatenate([scores, wrong_scores], 1)


def place_edges(edges: Array, scores: Array, order: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Write the graph of each image in its order of regions, and shuffle the edges.

    Args:
        edges: (P, 2, K, 3) of the objects; -1 is absent.
        scores: (P, K).
        order: (2 P, M) the object at each region.
        rng: for the order of the edges.

    Returns:
        (2 P, K, 3) relations between regions, absent ones last, and (2 P, K) float32 scores.
    """
    edges = edges.reshape(len(order), -1, 3).copy()
    images = np.arange(len(order))[:, None]
    place = order.argsort(1)  # where each object went
    for end in (0, 2):
        edges[..., end] = np.where(edges[..., end] < 0, -1, place[images, edges[..., end]])
    rows = shuffled(rng, edges[..., 0] >= 0)
    edges, scores = edges[images, rows], np.repeat(scores, 2, 0)[images, rows]
    return edges, np.where(edges[..., 0] < 0, 0, scores).astype(np.float32)


def shuffled(rng: np.random.Generator, present: Array) -> Array:
    """(N, L) a random order of each row's present places, the absent ones behind them."""
    return (rng.random(present.shape) + ~present).argsort(1, kind="stable")


def _first(edges: Array, number: int) -> Array:
    """The first ``number`` edges (P, number, 3); -1 where there are fewer."""
    missing = max(0, number - edges.shape[1])
    return np.pad(edges[:, :number], ((0, 0), (0, missing), (0, 0)), constant_values=-1)
