"""Two margins on the scores themselves: positives above one, negatives below the other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.losses.reductions import Total
from itmatch.ops.checks import check_choice, check_finite, check_not_negative
from itmatch.ops.masking import masked_max

Hardest = Literal["hardest", "all"]


def positive_negative_margin_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    positive_margin: float = 0.6,
    negative_margin: float = 0.2,
    negatives: Hardest = "hardest",
    reduction: Total = "sum",
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
) -> Tensor:
    r"""Hinge of each positive below the upper margin, and of the negatives above the lower one.

    Formula:
        With the positive pairs :math:`P`, the other pairs :math:`N`, and ``negatives="all"``,

        .. math:: w_p \sum_{(i,t) \in P} [m_p - s_{it}]_+ + w_n \sum_{(i,t) \in N} [s_{it} - m_n]_+

        ``negatives="hardest"`` takes, in place of the second sum, the highest negative of each image and of each
        caption (of those that have a positive); a pair that is the highest of both counts twice.
        ``reduction="mean"`` divides each of the two sums by the number of its terms.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Liu et al., *Learning Relationship-Enhanced Semantic Graph for Fine-Grained Image-Text Matching* (ReSG), IEEE
        Transactions on Cybernetics, 2024, names a positive-negative margin loss beside the triplet.

    Deviation:
        The formula, the choice of negatives and the values of the margins are our reading of that name.

    Example:
        >>> scores = torch.tensor([[0.5, 0.3], [0.0, 0.9]])
        >>> positive_negative_margin_loss(scores, negatives="all")  # 0.1 below 0.6, and 0.1 above 0.2
        tensor(0.2000)
    """
    _check_options(positive_margin, negative_margin, negatives, reduction, positive_weight, negative_weight)
    scores, positives = check_scores(scores, positives)
    below = (positive_margin - scores).clamp(min=0).masked_fill(~positives, 0).sum()
    above, count = _above(scores, positives, negative_margin, negatives)
    if reduction == "mean":
        below, above = below / positives.sum().clamp(min=1), above / count.clamp(min=1)
    return positive_weight * below + negative_weight * above


def _above(scores: Tensor, positives: Tensor, margin: float, negatives: Hardest) -> tuple[Tensor, Tensor]:
    """Sum of the hinges of the negatives, and their number."""
    negative = ~positives
    if negatives == "all":
        return (scores - margin).clamp(min=0).masked_fill(positives, 0).sum(), negative.sum()
    total, count = scores.new_zeros(()), torch.zeros((), dtype=torch.int64, device=scores.device)
    for dim in (1, 0):
        counted = positives.any(dim) & negative.any(dim)
        hinge = (masked_max(scores, negative, dim) - margin).clamp(min=0)
        total, count = total + hinge.masked_fill(~counted, 0).sum(), count + counted.sum()
    return total, count


def _check_options(
    positive_margin: float,
    negative_margin: float,
    negatives: str,
    reduction: str,
    positive_weight: float,
    negative_weight: float,
) -> None:
    check_finite("positive_margin", positive_margin)
    check_finite("negative_margin", negative_margin)
    if positive_margin <= negative_margin:
        raise ValueError(f"positive_margin: {positive_margin}, expected more than negative_margin, {negative_margin}")
    check_choice("negatives", negatives, "hardest", "all")
    check_choice("reduction", reduction, "sum", "mean")
    check_not_negative("positive_weight", positive_weight)
    check_not_negative("negative_weight", negative_weight)


class PositiveNegativeMarginLoss(ScoreLoss):
    """Positives above one margin, negatives below another; see :func:`positive_negative_margin_loss`.

    The margins are places on the scale of the scores, not distances, so that they suit bounded scores such as cosines.

    Args:
        positive_margin: a positive with a score above it costs nothing.
        negative_margin: a negative with a score below it costs nothing; less than ``positive_margin``.
        negatives: the highest negative of each image and caption, or all of them.
        reduction: sum over the terms, or the mean of each of the two sides.
        positive_weight: factor of the positives' side.
        negative_weight: factor of the negatives' side.

    Example:
        >>> PositiveNegativeMarginLoss(positive_margin=0.7, negative_margin=0.1)(torch.eye(3)).item()
        0.0
    """

    def __init__(
        self,
        positive_margin: float = 0.6,
        negative_margin: float = 0.2,
        negatives: Hardest = "hardest",
        reduction: Total = "sum",
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check_options(positive_margin, negative_margin, negatives, reduction, positive_weight, negative_weight)
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin
        self.negatives: Hardest = negatives
        self.reduction: Total = reduction
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return self.call(positive_negative_margin_loss, scores, positives)
