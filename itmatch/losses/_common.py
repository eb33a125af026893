"""What several score losses share: grades of pairs, the pairs of a mask, the value at equal scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itmatch.losses.base import ScoreLoss, even_positives
from itmatch.losses.triplet import Reduction


def check_grades(name: str, grades: Tensor, scores: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """A finite number for each pair, (I, T) as the scores, in their type and without a gradient.

    Values are looked at on the CPU alone, since a GPU would have to wait.
    """
    if not grades.is_floating_point():
        raise TypeError(f"{name}: {grades.dtype}, expected a floating dtype")
    if grades.shape != scores.shape:
        raise ValueError(f"{name}: shape {tuple(grades.shape)}, expected that of scores, {tuple(scores.shape)}")
    if grades.device.type == "cpu" and not torch.compiler.is_compiling():
        within = grades.isfinite() & (grades >= low) & (grades <= high)
        if not bool(within.all()):
            row, column = (~within).nonzero()[0].tolist()
            bounds = "a finite number" if low == -math.inf else f"a number from {low:g} to {high:g}"
            raise ValueError(f"{name}: {grades[row, column].item():g} at ({row}, {column}), expected {bounds}")
    return grades.detach().to(scores.dtype)


def pairs_of(mask: Tensor, *, diagonal: bool) -> tuple[Tensor, Tensor]:
    """Row and column of each True of a mask (I, T): (P,), (P,).

    Args:
        mask: (I, T) bool.
        diagonal: it is the diagonal; known without asking the mask, which would make a GPU wait.
    """
    if diagonal:
        index = torch.arange(len(mask), device=mask.device)
        return index, index
    image, caption = mask.nonzero(as_tuple=True)
    return image, caption


def reduced(total: Tensor, positives: Tensor, reduction: Reduction) -> Tensor:
    """The sum as it is, or divided by the number of positive pairs."""
    return total if reduction == "sum" else total / positives.sum().clamp(min=1)


def value_at_equal_scores(
    loss: ScoreLoss, num_images: int, num_captions: int, positives: Tensor | None
) -> float | None:
    """The loss of a matrix of zeros: :meth:`ScoreLoss.collapse_value` of losses that only see differences of scores."""
    mask = even_positives(num_images, num_captions) if positives is None else positives
    if mask is None:
        return None
    value: float = loss(torch.zeros(mask.shape, device=mask.device), mask).item()
    return value or None
