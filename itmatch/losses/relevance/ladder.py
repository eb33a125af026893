"""Ladder loss: the triplet, and below it rungs that keep the more relevant above the less relevant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from itmatch.losses.checks import check_relevance, check_scores
from itmatch.losses.hinge.triplet import hard_negative_triplet_loss
from itmatch.losses.reductions import Total
from itmatch.losses.relevance.base import RelevanceLoss
from itmatch.ops.checks import check_choice, check_finite, check_list, check_not_negative
from itmatch.ops.masking import masked_max


def ladder_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    relevance: Tensor | None = None,
    margins: Sequence[float] = (0.2, 0.01),
    thresholds: Sequence[float] = (0.63,),
    weights: Sequence[float] = (0.25,),
    reduction: Total = "sum",
) -> Tensor:
    r"""Hardest-negative triplet plus, for each threshold of relevance, a hinge between the two sides of it.

    Formula:
        For rung :math:`l` and image :math:`i`, let :math:`A` be the captions that describe it or have a relevance of
        at least :math:`\theta_l`, and :math:`B` the others. The rung asks that the worst of :math:`A` stands above
        the best of :math:`B`,

        .. math:: L_l(i) = [m_l - \min_{t \in A} s_{it} + \max_{t \in B} s_{it}]_+

        and 0 where one of the two is empty; the same for the captions with the columns. The result is

        .. math:: L_{\text{triplet}}(m_0) + \sum_l \beta_l \Big(\sum_i L_l(i) + \sum_t L_l(t)\Big)

        with :func:`hard_negative_triplet_loss` as the first rung. ``reduction="mean"`` divides all by the number of
        positive pairs. Without ``relevance`` only the first rung is left.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - relevance: (I, T) floating, or None; that of positives is not read, they stand on top
        - margins: one more than thresholds and weights
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Zhou et al., *Ladder Loss for Coherent Visual-Semantic Embedding*, AAAI 2020, with the hard contrastive
        sampling of the paper (minimum and maximum). The values are those of the authors' setting for COCO, whose
        relevance is the cosine of averaged word vectors.

    Example:
        >>> scores = torch.tensor([[0.9, 0.2, 0.3], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
        >>> relevance = torch.eye(3)
        >>> relevance[0, 1] = 0.8  # more relevant to image 0 than caption 2, but below it by 0.1
        >>> ladder_loss(scores, relevance=relevance, margins=[0.2, 0.05], thresholds=[0.5], weights=[1.0])
        tensor(0.1500)
    """
    _check_options(margins, thresholds, weights, reduction)
    triplet = hard_negative_triplet_loss(scores, positives, margin=margins[0])
    scores, positives = check_scores(scores, positives)
    if relevance is not None:
        grades = check_relevance(relevance, scores, -torch.inf, torch.inf)
        for margin, threshold, weight in zip(margins[1:], thresholds, weights, strict=True):
            near = positives | (grades >= threshold)
            triplet = triplet + weight * (_rung(scores, near, margin) + _rung(scores.T, near.T, margin))
    return triplet if reduction == "sum" else triplet / positives.sum().clamp(min=1)


def _rung(scores: Tensor, near: Tensor, margin: float) -> Tensor:
    far = ~near
    gap = masked_max(scores, far, 1) + masked_max(-scores, near, 1)  # (I,) best of the far minus worst of the near
    return (margin + gap).clamp(min=0).masked_fill(~(near.any(1) & far.any(1)), 0).sum()


def _check_options(
    margins: Sequence[float], thresholds: Sequence[float], weights: Sequence[float], reduction: str
) -> None:
    for name, values in (("margins", margins), ("thresholds", thresholds), ("weights", weights)):
        check_list(name, values)
    if not len(margins) - 1 == len(thresholds) == len(weights):
        raise ValueError(
            f"margins, thresholds, weights: {len(margins)}, {len(thresholds)} and {len(weights)} of them, expected one "
            "more margin than thresholds, and as many weights as thresholds"
        )
    for name, values in (("margins", margins), ("weights", weights)):
        for k, value in enumerate(values):
            check_not_negative(f"{name}[{k}]", value)
    for k, value in enumerate(thresholds):
        check_finite(f"thresholds[{k}]", value)
    if any(low >= high for high, low in pairwise(thresholds)):
        raise ValueError(f"thresholds: {list(thresholds)}, expected each below the one before")
    check_choice("reduction", reduction, "sum", "mean")


class LadderLoss(RelevanceLoss):
    """Triplet with rungs of relevance below it; see :func:`ladder_loss`.

    Args:
        margins: that of the triplet, then one a threshold, in units of the score.
        thresholds: of the relevance, falling.
        weights: factors of the rungs below the triplet, one a threshold.
        reduction: sum, or the sum over the number of positive pairs.

    Example:
        >>> loss = LadderLoss(margins=[0.2, 0.01, 0.01], thresholds=[0.7, 0.4], weights=[0.25, 0.125])
        >>> loss(torch.eye(3), relevance=torch.eye(3)).item()
        0.0
    """

    level_free = True

    def __init__(
        self,
        margins: Sequence[float] = (0.2, 0.01),
        thresholds: Sequence[float] = (0.63,),
        weights: Sequence[float] = (0.25,),
        reduction: Total = "sum",
    ) -> None:
        super().__init__()
        _check_options(margins, thresholds, weights, reduction)
        self.margins = tuple(margins)
        self.thresholds = tuple(thresholds)
        self.weights = tuple(weights)
        self.reduction: Total = reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None, *, relevance: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T), with the relevance of the pairs (I, T) or the triplet alone."""
        return self.call(ladder_loss, scores, positives, relevance=relevance)
