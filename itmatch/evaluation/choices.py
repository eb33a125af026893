"""Figures of tests of understanding: how often the right captions score above the wrong ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itmatch.errors import NonFiniteError


@dataclass(frozen=True)
class ChoiceFigure:
    """One figure over some questions, in percent, with its standard error.

    Args:
        kind: of the questions; "all" over all kinds.
        name: what is counted: "accuracy"; "text", "image" and "group" of two images with two captions; "auc" of single
            captions.
        count: questions, or groups, or pairs of a right and a wrong caption.
        value: percent; a tie is wrong.
        error: standard error in percent.
        blind: the same with another image in the place of the own one: what the captions alone give away.
        blind_error: its standard error.
    """

    kind: str
    name: str
    count: int
    value: float
    error: float
    blind: float | None = None
    blind_error: float | None = None


def chosen_right(right: Tensor, wrong: Tensor) -> Tensor:
    """Whether all right captions of each question score above all its wrong ones; a tie is wrong.

    Shape:
        - right: (N, A), scores of right captions; where there are fewer than A the last are +inf
        - wrong: (N, B), scores of wrong captions; where there are fewer than B the last are -inf
        - result: (N,) bool

    Example:
        >>> chosen_right(torch.tensor([[0.9], [0.5]]), torch.tensor([[0.2, 0.8], [0.5, 0.1]])).tolist()
        [True, False]
    """
    return right.amin(1) > wrong.amax(1)


def share(hits: Tensor) -> tuple[float, float]:
    """The share of hits (N,) bool and its standard error, in percent.

    Example:
        >>> share(torch.tensor([True, True, True, False]))
        (75.0, 21.650635094610966)
    """
    part = float(hits.double().mean())
    return 100 * part, 100 * math.sqrt(part * (1 - part) / len(hits))


def area_under_curve(right: Tensor, wrong: Tensor) -> tuple[float, float]:
    """How often a right caption scores above a wrong one, over all pairs of the two, and its standard error.

    A tie counts as wrong. The standard error is that of Hanley and McNeil.

    Shape:
        - right: (A,), wrong: (B,)

    Source:
        Hanley and McNeil, *The Meaning and Use of the Area under a ROC Curve*, Radiology 1982.

    Example:
        >>> area_under_curve(torch.tensor([0.9, 0.4]), torch.tensor([0.5, 0.1]))[0]
        75.0
    """
    ordered = wrong.sort().values
    area = float(torch.searchsorted(ordered, right.contiguous()).double().mean()) / len(wrong)
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (len(right) - 1) * (one - area**2) + (len(wrong) - 1) * (two - area**2)
    return 100 * area, 100 * math.sqrt(max(0.0, spread) / (len(right) * len(wrong)))


def group_hits(scores: Tensor) -> dict[str, Tensor]:
    """Which groups of two images and two captions are right: by text, by image, and by both.

    Shape:
        - scores: (G, 2, 2), image, caption; caption k describes image k

    Source:
        Thrush et al., *Winoground*, CVPR 2022.

    Example:
        >>> found = group_hits(torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.95, 0.96]]]))
        >>> {name: hits.tolist() for name, hits in found.items()}
        {'text': [True, True], 'image': [True, False], 'group': [True, False]}
    """
    own, other = scores.diagonal(dim1=1, dim2=2), scores.flip(2).diagonal(dim1=1, dim2=2)  # (G, 2), by image
    text = (own > other).all(1)
    image = (own > other.flip(1)).all(1)
    return {"text": text, "image": image, "group": text & image}


def check_finite_scores(scores: Tensor, where: str) -> None:
    """Raise if a score is NaN or infinite."""
    if not bool(scores.isfinite().all()):
        raise NonFiniteError(f"{where}: {int((~scores.isfinite()).sum())} scores are NaN or infinite")


def choice_table(figures: Sequence[ChoiceFigure]) -> str:
    """The figures as a table of plain text."""
    rows = [("kind", "figure", "n", "percent", "other image")]
    for one in figures:
        blind = "" if one.blind is None else f"{one.blind:.1f} ± {one.blind_error or 0:.1f}"
        rows.append((one.kind, one.name, str(one.count), f"{one.value:.1f} ± {one.error:.1f}", blind))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
