"""Curves and bars, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 14, 42  # room for what stands around a chart
_MOST_POINTS = 400
COLOURS = ("#1c7ed6", "#d9480f", "#2b8a3e", "#9c36b5")  # told apart on white and on black

Points = Sequence[tuple[float, float]]


def curves(title: str, series: Mapping[str, Points], across: str) -> str:
    """Lines of several series over one axis; of very long ones the means of stretches are drawn.

    Args:
        title: of the chart.
        series: points (x, y) by name, in the order of x.
        across: what x is.

    Example:
        >>> chart = curves("loss", {"train": [(0, 2.0), (1, 1.0)]}, "step")
        >>> chart.startswith("<figure"), "polyline" in chart
        (True, True)
    """
    shown = {name: _thinned(points) for name, points in series.items() if points}
    every = [point for points in shown.values() for point in points]
    (x_low, x_high), (y_low, y_high) = (_limits([point[axis] for point in every]) for axis in (0, 1))
    y_ticks = _ticks(y_low, y_high)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        right = _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        return right, _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_level(at(x_low, y)[1], y) for y in y_ticks]
    parts += [_under(at(x, y_low)[0], _number(x)) for x in _ticks(x_low, x_high)]
    for (name, points), colour in zip(shown.items(), COLOURS * len(shown), strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 60:
            parts += [
                f'<circle cx="{at(x, y)[0]:.1f}" cy="{at(x, y)[1]:.1f}" r="3" fill="{colour}">'
                f"<title>{escape(name)}: {_number(y)} at {escape(across)} {_number(x)}</title></circle>"
                for x, y in points
            ]
    return _chart(title, parts, across, list(shown))


def bars(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], across: str) -> str:
    """Groups of bars, in percent.

    Args:
        title: of the chart.
        labels: of the groups.
        series: by name a value in [0, 100] for every group.
        across: what the labels are.
    """
    room = (_WIDTH - _LEFT - _RIGHT) / len(labels)
    wide = 0.8 * room / len(series)
    high = _HEIGHT - _TOP - _BOTTOM
    parts = [_level(_HEIGHT - _BOTTOM - share * high / 100, share) for share in (0, 25, 50, 75, 100)]
    for group, label in enumerate(labels):
        left = _LEFT + group * room
        parts.append(_under(left + room / 2, label))
        for number, (name, values) in enumerate(series.items()):
            tall = high * values[group] / 100
            x, y = left + 0.1 * room + number * wide, _HEIGHT - _BOTTOM - tall
            told = f"<title>{escape(name)}, {escape(label)}: {values[group]:.1f} %</title>"
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{COLOURS[number % 4]}">'
                f'{told}</rect><text x="{x + wide / 2:.1f}" y="{y - 4:.1f}" text-anchor="middle" font-size="10">'
                f"{values[group]:.0f}</text>"
            )
    return _chart(title, parts, across, list(series))


def _chart(title: str, parts: Sequence[str], across: str, names: Sequence[str]) -> str:
    keys = "".join(
        f'<span class="itm-key"><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" '
        f'fill="{colour}"/></svg> {escape(name)}</span>'
        for name, colour in zip(names, COLOURS * len(names), strict=False)
    )
    axis = f'<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'
    return (
        f'<figure class="itm-chart"><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escape(title, quote=True)}">{"".join(parts)}{axis}</svg><div>{keys}</div></figure>'
    )


def _level(y: float, value: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="itm-level"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
    )


def _under(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{escape(text)}</text>'


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from about the one to about the other."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= 5)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    """Short, and not 0.30000000000000004."""
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.3g}"


def _thinned(points: Points) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / _MOST_POINTS)
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in stretches]
