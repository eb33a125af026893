"""Explanations as figures of matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmatch.pages.explanation import Explanation
from itmatch.pages.pictures import is_drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(explanation: Explanation) -> Figure:
    """The picture with its boxes, and a heat map of regions and words.

    A drawing is SVG, which matplotlib does not read: its boxes are drawn with their names alone.

    Raises:
        ImportError: there is no matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "itmatch[plot]"') from error
    with_boxes = explanation.boxes is not None
    rows, columns = len(explanation.regions), len(explanation.words)
    sizes = [4.5] * with_boxes + [max(3.0, 0.35 * columns + 1.5)]
    figure = Figure(figsize=(sum(sizes), max(3.5, 0.22 * rows + 1.5)), layout="constrained")
    axes = figure.subplots(1, len(sizes), width_ratios=sizes, squeeze=False)[0]
    figure.suptitle(_plain(f"{explanation.text}   ({explanation.score:.3f})"), fontsize=10)
    if with_boxes:
        _picture(axes[0], explanation)
    _table(axes[-1], explanation)
    return figure


def _picture(axis: Any, explanation: Explanation) -> None:
    from matplotlib.patches import Rectangle

    assert explanation.boxes is not None
    picture, width, height = explanation.picture, 1.0, 1.0
    if picture is not None and not is_drawing(picture):
        from itmatch.formats.photos import open_photo

        photo = open_photo(Path(picture))
        width, height = photo.size
        axis.imshow(np.asarray(photo))
    for (x, y, right, bottom), name in zip(explanation.boxes.tolist(), explanation.regions, strict=True):
        corner = (x * width, y * height)
        axis.add_patch(Rectangle(corner, (right - x) * width, (bottom - y) * height, fill=False, edgecolor="#d9480f"))
        axis.text(*corner, _plain(name), fontsize=6, color="#d9480f", va="bottom")
    axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")


def _table(axis: Any, explanation: Explanation) -> None:
    if explanation.alignment is None:
        axis.text(0.5, 0.5, "this similarity has no alignment\nof regions and words", ha="center", va="center")
        axis.set_axis_off()
        return
    shown = axis.imshow(explanation.alignment, cmap="Blues", aspect="auto", interpolation="nearest")
    axis.set_xticks(range(len(explanation.words)), map(_plain, explanation.words), rotation=50, ha="right", fontsize=8)
    axis.set_yticks(range(len(explanation.regions)), map(_plain, explanation.regions), fontsize=7)
    axis.figure.colorbar(shown, ax=axis, shrink=0.7)


def _plain(text: str) -> str:
    """A text as it is: matplotlib reads what stands between dollars as mathematics."""
    return text.replace("$", r"\$")
