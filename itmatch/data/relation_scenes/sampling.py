"""Drawing the scenes of :class:`itmatch.data.RelationScenes`, all of a split at once.

In every scene objects 0 and 1 are the *pair* whose relation the twin reverses, and object 2 is the one that an overlap
refers to. These places are internal: regions are shuffled before anybody sees them.

Sizes: ``P`` pairs of twins, ``M`` most objects a scene, ``K`` most relations a scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from itmatch.data.relation_scenes.grammar import CATEGORIES, COLOURS, PREDICATES, SIZES
from itmatch.formats.arrays import Array

TwinKind = Literal["semantic", "horizontal", "vertical", "overlap"]
TWIN_KINDS: tuple[TwinKind, ...] = ("semantic", "horizontal", "vertical", "overlap")
GRID = 4  # cells a side; objects stand in different cells, so only chosen boxes overlap
MOST_OBJECTS = GRID * GRID

_CELL = 1 / GRID
_MARGIN = 0.005  # between a box and the wall of its cell
_SIDES = np.array([0.09, 0.13, 0.17])  # shortest side of a small, medium and large box; the longest is 0.03 more
_SIDE_RANGE = 0.03
_SHIFT = (0.08, 0.15)  # of an overlapping box, in sides: IoU 0.57 to 0.73


@dataclass(frozen=True)
class Scenes:
    """The scenes of a split, without any noise.

    Args:
        kind: (P,) index into TWIN_KINDS.
        count: (P,) objects a scene.
        category: (P, M) index into CATEGORIES.
        colour: (P, M) index into COLOURS.
        size: (P, M) index into SIZES.
        boxes: (P, 2, M, 4) of either twin.
        edges: (P, 2, K, 3) true relations of either twin, subject, predicate, object; -1 where there are fewer.
        spare_edges: (P, Q, 3) false relations, of pairs that no true one joins; -1 where there are fewer.
    """

    kind: Array
    count: Array
    category: Array
    colour: Array
    size: Array
    boxes: Array
    edges: Array
    spare_edges: Array


def sample_scenes(
    rng: np.random.Generator, kinds: Array, *, min_objects: int, max_objects: int, max_relations: int
) -> Scenes:
    """Draw a scene and its twin for each of ``kinds`` (P,)."""
    pairs = len(kinds)
    count = rng.integers(min_objects, max_objects + 1, pairs)
    # Colour and category are drawn together without replacement, so that they name an object within its scene.
    looks = rng.random((pairs, len(CATEGORIES) * len(COLOURS))).argsort(1, kind="stable")[:, :max_objects]
    size = rng.integers(0, len(SIZES), (pairs, max_objects))
    overlap = kinds == TWIN_KINDS.index("overlap")
    extra = (rng.random(pairs) < 0.5) & ~overlap  # an overlap that the twin leaves alone
    size[:, 1] = size[:, 0]  # the two can trade their boxes without a change of what the area says
    size[overlap, 2] = size[overlap, 0]
    size[extra, 3] = size[extra, 2]
    box = _sample_boxes(rng, kinds, size, overlap=overlap, extra=extra)
    edges, spare = _sample_edges(rng, kinds, count, max_objects, max_relations)
    return Scenes(
        kind=kinds,
        count=count,
        category=looks // len(COLOURS),
        colour=looks % len(COLOURS),
        size=size,
        boxes=np.stack([box, _twin_boxes(box, kinds)], 1).astype(np.float32),
        edges=np.stack([edges, _twin_edges(edges, kinds)], 1),
        spare_edges=spare,
    )


def spatial_relations(first: Array, second: Array) -> list[str]:
    """What box ``first`` is with respect to box ``second``, both (4,) x1 y1 x2 y2 with y downwards.

    "left of" and the like mean that a straight line separates the boxes; diagonal neighbours have two relations.

    Example:
        >>> spatial_relations(np.array([0.0, 0.0, 0.2, 0.2]), np.array([0.5, 0.1, 0.7, 0.3]))
        ['left of']
    """
    a, b = first.tolist(), second.tolist()
    found = {"left of": a[2] <= b[0], "right of": b[2] <= a[0], "above": a[3] <= b[1], "below": b[3] <= a[1]}
    return [name for name, holds in found.items() if holds] or ["overlapping"]


def _sample_boxes(rng: np.random.Generator, kinds: Array, size: Array, *, overlap: Array, extra: Array) -> Array:
    pairs, most = size.shape
    extent = _SIDES[size][..., None] + _SIDE_RANGE * rng.random((pairs, most, 2))  # (P, M, 2) width, height
    place = rng.random((pairs, most, 2))
    shift = rng.uniform(*_SHIFT, (pairs, 2))
    sign = rng.integers(0, 2, (pairs, 2))
    cells = rng.random((pairs, MOST_OBJECTS)).argsort(1, kind="stable")[:, :most]
    cell = np.stack([cells % GRID, cells // GRID], -1)  # (P, M, 2) column, row
    for axis, name in ((0, "horizontal"), (1, "vertical")):
        same = (kinds == TWIN_KINDS.index(name)) & (cell[:, 0, axis] == cell[:, 1, axis])
        cell[same] = cell[same][..., ::-1]  # mirrored at the diagonal: then the pair differs along this axis
    for chosen, mover in ((overlap, 0), (extra, 3)):
        cell[chosen, mover], extent[chosen, mover] = cell[chosen, 2], extent[chosen, 2]
    room = np.zeros((pairs, most, 2))
    shifted = (overlap | extra)[:, None] * shift * extent[:, 2]
    room[:, 2] = shifted
    low = cell * _CELL + _MARGIN + place * (_CELL - 2 * _MARGIN - extent - room)
    for chosen, mover in ((overlap, 0), (extra, 3)):
        low[chosen, mover] = (low[:, 2] + (1 - sign) * shifted)[chosen]
    low[:, 2] += sign * shifted
    return np.concatenate([low, low + extent], -1)


def _twin_boxes(box: Array, kinds: Array) -> Array:
    spatial = kinds != TWIN_KINDS.index("semantic")
    twin = box.copy()
    twin[spatial, 0], twin[spatial, 1] = box[spatial, 1], box[spatial, 0]
    return twin


def _sample_edges(
    rng: np.random.Generator, kinds: Array, count: Array, most: int, max_relations: int
) -> tuple[Array, Array]:
    first, second = np.triu_indices(most, 1)  # (Q,) the pairs of objects; pair 0 is objects 0 and 1
    pairs, choices = len(count), len(first)
    keys = rng.random((pairs, choices))
    keys[kinds == TWIN_KINDS.index("semantic"), 0] = -1  # the relation that is reversed always exists
    keys[second[None] >= count[:, None]] = 2
    forward = rng.integers(0, 2, (pairs, choices)).astype(bool)
    predicate = rng.integers(0, len(PREDICATES), (pairs, choices))
    table = np.stack([np.where(forward, first, second), predicate, np.where(forward, second, first)], -1)
    table[keys == 2] = -1
    table = np.take_along_axis(table, keys.argsort(1, kind="stable")[..., None], 1)  # one edge a pair, shuffled
    edges = table[:, :max_relations].copy()
    number = rng.integers(1, max_relations + 1, pairs)
    edges[np.arange(edges.shape[1]) >= number[:, None]] = -1
    return edges, table[:, max_relations:]


def _twin_edges(edges: Array, kinds: Array) -> Array:
    semantic = kinds == TWIN_KINDS.index("semantic")
    twin = edges.copy()
    twin[semantic, 0] = edges[semantic, 0, ::-1]
    return twin
