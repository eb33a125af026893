"""Scenes as pictures: SVG, with a figure for every object at its box and an arrow for every relation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import overload

from itmatch.data.relation_scenes.figures import figure
from itmatch.data.relation_scenes.grammar import CATEGORIES, COLOURS, PREDICATES, SIZES
from itmatch.data.relation_scenes.sampling import Scenes

SIDE = 480  # of a picture
_FRAME = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}" role="img" '
    'font-family="sans-serif" font-size="13" text-anchor="middle">'
)
_GROUND = f'<rect width="{SIDE}" height="{SIDE}" fill="#eef2ea"/>'


class SceneDrawings(Sequence[str]):
    """The drawings of all images of a split; each is made when it is asked for.

    A figure shows the category of an object, its colour and, by its box, its size and place. Arrows are the true
    relations, from subject to object.

    Args:
        scenes: those of the split; images ``2 k`` and ``2 k + 1`` are the twins of pair k.
    """

    def __init__(self, scenes: Scenes) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return 2 * len(self._scenes.count)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        image = range(len(self))[index]
        return _draw(self._scenes, image // 2, image % 2)


def _draw(scenes: Scenes, pair: int, twin: int) -> str:
    places = range(int(scenes.count[pair]))
    names = [_name(scenes, pair, place) for place in places]
    boxes = [[round(SIDE * value) for value in scenes.boxes[pair, twin, place].tolist()] for place in places]
    edges = [edge for edge in scenes.edges[pair, twin].tolist() if edge[0] >= 0]
    told = [f"{names[s]} {PREDICATES[p]} {names[o]}" for s, p, o in edges]
    title = f"<title>{escape('; '.join([', '.join(names), *told]))}</title>"
    arrows = [_arrow(boxes[s], boxes[o], text) for (s, _, o), text in zip(edges, told, strict=True)]
    figures = [_object(scenes, pair, place, boxes[place], names[place]) for place in places]
    return "".join([_FRAME, title, _GROUND, *arrows, *figures, "</svg>"])


def _name(scenes: Scenes, pair: int, place: int) -> str:
    size, colour = SIZES[scenes.size[pair, place]], COLOURS[scenes.colour[pair, place]]
    return f"{size} {colour} {CATEGORIES[scenes.category[pair, place]]}"


def _object(scenes: Scenes, pair: int, place: int, box: list[int], name: str) -> str:
    left, top, right, bottom = box
    category = CATEGORIES[scenes.category[pair, place]]
    scale = f"{(right - left) / 100:.2f} {(bottom - top) / 100:.2f}"
    shape = figure(category, COLOURS[scenes.colour[pair, place]])
    return (
        f'<g><title>{escape(name)}</title><g transform="translate({left} {top}) scale({scale})" stroke="#1f1f24" '
        f'stroke-width="3" stroke-linejoin="round" stroke-linecap="round">{shape}</g>'
        f'<text x="{(left + right) // 2}" y="{min(bottom + 13, SIDE - 4)}" fill="#55605a">{escape(category)}</text></g>'
    )


def _arrow(start: list[int], end: list[int], told: str) -> str:
    """From the rim of one box to that of another."""
    (x, y), (u, v) = _centre(start), _centre(end)
    length = math.hypot(u - x, v - y) or 1.0
    dx, dy = (u - x) / length, (v - y) / length
    near, far = _radius(start), _radius(end)
    if near + far + 8 > length:  # one lies upon the other
        near = far = 0.0
    x, y, u, v = x + near * dx, y + near * dy, u - far * dx, v - far * dy
    head = f"{u:.0f} {v:.0f}L{u - 9 * dx + 4 * dy:.0f} {v - 9 * dy - 4 * dx:.0f} "
    head += f"{u - 9 * dx - 4 * dy:.0f} {v - 9 * dy + 4 * dx:.0f}z"
    return (
        f'<g stroke="#7a857e" fill="#7a857e" stroke-width="1.5"><title>{escape(told)}</title>'
        f'<path d="M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}" stroke-dasharray="5 4"/><path d="M{head}"/></g>'
    )


def _centre(box: list[int]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _radius(box: list[int]) -> float:
    return 0.55 * max(box[2] - box[0], box[3] - box[1])
