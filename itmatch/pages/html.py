"""Explanations as HTML: what stands in the page; the script and the style are in ``assets``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from html import escape

from itmatch.formats.arrays import Array
from itmatch.formats.messages import counted
from itmatch.pages.effects import RelationEffects
from itmatch.pages.explanation import Explanation, Relation
from itmatch.pages.pictures import Picture, embedded, size_of

_SIDE = 640  # of the longer side of the drawing over a picture
_STRONGEST = 8  # relations that a table shows; it opens for the others
_MANY = 48  # regions, as the patches of a grid: their outlines would hide the picture, and the keyboard leaves them out


def fragment(explanation: Explanation, *, source: str | None = None, side: int = _SIDE) -> str:
    """A ``<div class="itm-explain">``: the picture with its boxes and arrows, and the words of the caption.

    Args:
        explanation: what is shown.
        source: the URL of the picture in the page; None = the picture itself, made small.
        side: pixels of the longer side of a photo that is put into the page.
    """
    picture = explanation.picture
    shown = embedded(picture, side) if source is None else Picture(source, *size_of(picture))
    table = escape(json.dumps(_table(explanation)), quote=True)
    parts = [_picture(explanation, shown)]
    if explanation.boxes is None:
        parts.append(_chips("itm-regions", "Regions", _region_chips(explanation)))
    parts.append(_chips("itm-words", "Caption", _word_chips(explanation)))
    if explanation.phrases:
        parts.append(_chips("itm-phrases", "Relations of the caption", _phrase_chips(explanation)))
    if explanation.alignment is None:
        parts.append('<p class="itm-note">This similarity does not say which region goes with which word.</p>')
    return f'<div class="itm-explain" data-alignment="{table}">{"".join(parts)}</div>'


def _table(explanation: Explanation) -> list[list[float | None]]:
    """Rows: regions, then relations; columns: words, then phrases. The two levels do not meet: None."""
    no_words: list[float | None] = [None] * len(explanation.words)
    no_phrases: list[float | None] = [None] * len(explanation.phrases)
    if explanation.alignment is None:
        return []
    rows = [_rounded(row) + no_phrases for row in explanation.alignment]
    if explanation.relation_alignment is not None:
        rows += [no_words + _rounded(row) for row in explanation.relation_alignment]
    return rows


def _rounded(values: Array) -> list[float | None]:
    return [round(float(value), 4) for value in values]


def _picture(explanation: Explanation, picture: Picture) -> str:
    scale = _SIDE / max(picture.width, picture.height)
    width, height = round(picture.width * scale), round(picture.height * scale)
    about = escape(f"Picture for the caption: {explanation.text}", quote=True)
    image = f'<img src="{escape(picture.source, quote=True)}" alt="{about}">' if picture.source else ""
    note = f'<p class="itm-note">No picture: {escape(picture.problem)}</p>' if picture.problem else ""
    if explanation.boxes is None:
        return f'<div class="itm-picture">{image}</div>{note}' if image else note
    boxes = [[x * width if i % 2 == 0 else x * height for i, x in enumerate(box)] for box in explanation.boxes.tolist()]
    order = sorted(range(len(boxes)), key=lambda row: -_area(boxes[row]))  # small ones on top, for the mouse
    marks = [_box(row, boxes[row], explanation.regions[row], (width, height), few=len(boxes) <= _MANY) for row in order]
    marks += [_arrow(explanation, i, relation, boxes) for i, relation in enumerate(explanation.relations)]
    overlay = f'<svg viewBox="0 0 {width} {height}" class="itm-overlay" role="group" aria-label="Regions">'
    empty = ("" if image else " itm-empty") + (" itm-many" if len(boxes) > _MANY else "")
    return f'<div class="itm-picture{empty}" data-width="{width}">{image}{overlay}{"".join(marks)}</svg></div>{note}'


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _box(row: int, box: list[float], name: str, size: tuple[int, int], *, few: bool) -> str:
    (x, y, right, bottom), (width, height) = box, size
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(right - x, 1):.1f}" height="{max(bottom - y, 1):.1f}"'
    low = y - 5 if y > 20 else min(bottom + 15, height - 4)
    anchor, at = ("end", right) if x > 0.8 * width else ("start", x)
    shown, focus = escape(name), ' tabindex="0"' if few else ""
    return (
        f'<g class="itm-box" data-row="{row}"{focus} role="img" aria-label="{escape(name, quote=True)}">'
        f'<title>{shown}</title><rect {place} rx="3"/><text x="{at:.1f}" y="{low:.1f}" text-anchor="{anchor}">{shown}'
        "</text></g>"
    )


def _arrow(explanation: Explanation, number: int, relation: Relation, boxes: list[list[float]]) -> str:
    start, end = boxes[relation.subject], boxes[relation.object]
    (x, y), (u, v) = _centre(start), _centre(end)
    length = math.hypot(u - x, v - y) or 1.0
    dx, dy = (u - x) / length, (v - y) / length
    near, far = min(_reach(start, dx, dy), length / 3), min(_reach(end, dx, dy), length / 3)
    x, y, u, v = x + near * dx, y + near * dy, u - far * dx, v - far * dy
    head = f"{u:.1f} {v:.1f}L{u - 11 * dx + 5 * dy:.1f} {v - 11 * dy - 5 * dx:.1f}L"
    head += f"{u - 11 * dx - 5 * dy:.1f} {v - 11 * dy + 5 * dx:.1f}z"
    names = explanation.regions[relation.subject], relation.name or "next to", explanation.regions[relation.object]
    told = " ".join(names) + ("" if relation.weight == 1 else f" ({relation.weight:.2f})")
    row = f' data-row="{len(explanation.regions) + number}"' if explanation.relation_alignment is not None else ""
    label = (
        ""
        if relation.name is None
        else (
            f'<text x="{(x + u) / 2:.1f}" y="{(y + v) / 2 - 4:.1f}" text-anchor="middle">{escape(relation.name)}</text>'
        )
    )
    return (
        f'<g class="itm-arrow"{row} data-ends="{relation.subject} {relation.object}" '
        f'opacity="{0.35 + 0.65 * relation.weight:.2f}"><title>{escape(told)}</title>'
        f'<path d="M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}"/><path class="itm-head" d="M{head}"/>{label}</g>'
    )


def _centre(box: list[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _reach(box: list[float], dx: float, dy: float) -> float:
    """From the centre of a box to its rim, along a direction."""
    across = (box[2] - box[0]) / 2 / abs(dx) if dx else math.inf
    along = (box[3] - box[1]) / 2 / abs(dy) if dy else math.inf
    return min(across, along)


def _chips(kind: str, label: str, chips: Iterable[str]) -> str:
    return f'<div class="{kind}" role="group" aria-label="{label}">{"".join(chips)}</div>'


def _word_chips(explanation: Explanation) -> Iterable[str]:
    for column, (word, joined) in enumerate(zip(explanation.words, explanation.joined, strict=True)):
        yield _chip(f'data-column="{column}"', word, " itm-joined" if joined else "")


def _phrase_chips(explanation: Explanation) -> Iterable[str]:
    for number, phrase in enumerate(explanation.phrases):
        yield _chip(f'data-column="{len(explanation.words) + number}"', phrase)


def _region_chips(explanation: Explanation) -> Iterable[str]:
    for row, name in enumerate(explanation.regions):
        yield _chip(f'data-row="{row}"', name)


def _chip(data: str, text: str, more: str = "") -> str:
    return f'<button type="button" class="itm-chip{more}" {data}>{escape(text)}</button>'


def effects_fragment(effects: RelationEffects) -> str:
    """A ``<div class="itm-effects">``: what each relation adds to a score, the strongest first.

    Args:
        effects: what is shown.
    """
    most = max((abs(effect) for _, effect in effects.effects), default=0.0)
    rows = [_effect(effects.called(one), one, effect, most) for one, effect in effects.effects]
    count = counted(len(rows), "relations")
    told = f"score {effects.score:.4f} with {count} of the image, {effects.without_any:.4f} without any"
    parts = [f'<p class="itm-note">What each relation adds: {told}</p>', _effects_table(rows[:_STRONGEST])]
    if len(rows) > _STRONGEST:
        more = _effects_table(rows[_STRONGEST:])
        parts.append(f"<details><summary>{len(rows) - _STRONGEST} that add less</summary>{more}</details>")
    return f'<div class="itm-effects" tabindex="-1">{"".join(parts)}</div>'


def _effects_table(rows: list[str]) -> str:
    head = '<tr><th scope="col">relation</th><th scope="col">adds</th></tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _effect(called: str, relation: Relation, effect: float, most: float) -> str:
    """A row: the relation, which lights up in the picture, what it adds, and this as a bar from the middle."""
    width = 50 * abs(effect) / most if most else 0.0
    place = f'x="{50 - width if effect < 0 else 50:.1f}" y="0" width="{width:.1f}" height="3"'
    bar = f'<rect class="itm-{"down" if effect < 0 else "up"}" {place}/>'
    chip = _chip(f'data-ends="{relation.subject} {relation.object}"', called, " itm-effect")
    drawn = f'<svg class="itm-bar" viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true">{bar}</svg>'
    return f'<tr><th scope="row">{chip}{drawn}</th><td>{round(effect, 4) + 0.0:+.4f}</td></tr>'
