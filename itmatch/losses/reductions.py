"""From what each positive pair loses to one number."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from itmatch.ops.checks import check_choice

Reduction = Literal["sum", "mean", "none"]
Total = Literal["sum", "mean"]  # of a loss that has no number per pair


def check_reduction(reduction: str) -> None:
    """Refuse a reduction that is none of the three."""
    check_choice("reduction", reduction, "sum", "mean", "none")


def reduced(lost: Tensor, positives: Tensor, reduction: Reduction) -> Tensor:
    """What the positive pairs lose (I, T), 0 elsewhere: their sum, their mean, or the numbers themselves (P,)."""
    if reduction == "none":
        return lost[positives]
    total = lost.sum()
    return total if reduction == "sum" else total / positives.sum().clamp(min=1)
