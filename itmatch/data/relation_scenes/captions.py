"""Choosing what a caption of a scene states; :mod:`itmatch.data.relation_scenes.grammar` words it."""

from __future__ import annotations

from collections.abc import Iterator

from itmatch.data.relation_scenes.grammar import (
    CATEGORIES,
    COLOURS,
    PREDICATES,
    SIZES,
    ObjectName,
    Statement,
    compose,
    pick,
)
from itmatch.data.relation_scenes.sampling import TWIN_KINDS, Scenes, spatial_relations

_ALONG = {"horizontal": ("left of", "right of"), "vertical": ("above", "below"), "overlap": ("overlapping",)}


def describe(scenes: Scenes, pair: int, twin: int, draws: Iterator[float], *, two: bool, shared: bool) -> str:
    """A true caption of one scene.

    Args:
        scenes: all scenes of a split.
        pair: place of the scene and its twin.
        twin: 0 or 1, which of them.
        draws: random numbers in [0, 1).
        two: state a second relation, which holds in both twins.
        shared: state nothing but what holds in both twins.
    """
    first = _common(scenes, pair, twin, draws) if shared else _reversed(scenes, pair, twin)
    statements = [first]
    if two:
        second = _common(scenes, pair, twin, draws)
        if {second.subject, second.object} != {first.subject, first.object}:
            statements.insert(int(next(draws) * 2), second)
    return compose(statements, draws)


def _reversed(scenes: Scenes, pair: int, twin: int) -> Statement:
    """The relation that is the other way round in the other twin."""
    kind = TWIN_KINDS[scenes.kind[pair]]
    if kind == "semantic":
        return _semantic(scenes, pair, twin, 0)
    first, second = (twin, 2) if kind == "overlap" else (0, 1)
    found = spatial_relations(scenes.boxes[pair, twin, first], scenes.boxes[pair, twin, second])
    relation = next(name for name in found if name in _ALONG[kind])
    return Statement(_name(scenes, pair, first), relation, _name(scenes, pair, second))


def _common(scenes: Scenes, pair: int, twin: int, draws: Iterator[float]) -> Statement:
    """A relation that holds in both twins."""
    semantic_twins = TWIN_KINDS[scenes.kind[pair]] == "semantic"
    edges = [i for i, edge in enumerate(scenes.edges[pair, twin]) if edge[0] >= 0 and not (semantic_twins and i == 0)]
    as_semantic = next(draws) < 0.5
    if as_semantic and edges:
        return _semantic(scenes, pair, twin, pick(edges, draws))
    still = range(0 if semantic_twins else 2, int(scenes.count[pair]))  # objects with the same box in both twins
    first = pick(still, draws)
    second = pick([i for i in still if i != first], draws)
    found = spatial_relations(scenes.boxes[pair, twin, first], scenes.boxes[pair, twin, second])
    return Statement(_name(scenes, pair, first), pick(found, draws), _name(scenes, pair, second))


def _semantic(scenes: Scenes, pair: int, twin: int, edge: int) -> Statement:
    subject, predicate, object_ = scenes.edges[pair, twin, edge].tolist()
    return Statement(_name(scenes, pair, subject), PREDICATES[predicate], _name(scenes, pair, object_))


def _name(scenes: Scenes, pair: int, place: int) -> ObjectName:
    size, colour = SIZES[scenes.size[pair, place]], COLOURS[scenes.colour[pair, place]]
    return ObjectName(size, colour, CATEGORIES[scenes.category[pair, place]])
