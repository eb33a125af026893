"""Triplet alignment loss: the triplet with a smooth maximum of all negatives, for pairs that may be wrong."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.losses.reductions import Reduction, Total, check_reduction
from itmatch.ops.checks import check_above_zero, check_choice, check_not_negative
from itmatch.ops.masking import masked_logsumexp, masked_max, masked_softmax, masked_sum

Maximum = Literal["smooth", "hardest"]


def triplet_alignment_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    margin: float = 0.1,
    temperature: float = 0.015,
    reduction: Reduction = "sum",
    maximum: Maximum = "smooth",
) -> Tensor:
    r"""Hinge between the positives of each image and caption and the log-sum-exp of its negatives.

    Formula:
        For an image with positives :math:`P(i)` and negatives :math:`N(i)`,

        .. math:: L(i) = \Big[m - \sum_{t \in P(i)} \alpha_{it} s_{it}
            + \tau \log \sum_{t \in N(i)} e^{s_{it} / \tau}\Big]_+, \qquad
            \alpha_{it} = \frac{e^{s_{it} / \tau}}{\sum_{t' \in P(i)} e^{s_{it'} / \tau}}

        with the margin :math:`m` and the temperature :math:`\tau`. No gradient passes through :math:`\alpha`. The
        result is the sum over the images plus the same for the captions; ``reduction="mean"`` takes the mean over the
        images that have a positive, and over such captions; ``"none"`` gives the losses of the images and of the
        captions, for weights of your own. Without positives, or negatives, :math:`L(i) = 0`.

        The log-sum-exp is an upper bound of the maximum, so the loss is at least the triplet with the hardest
        negative, and becomes it as :math:`\tau \to 0`; all hard negatives share the gradient, which a single wrong
        pair cannot take for itself. ``maximum="hardest"`` has the maximum itself in its place.

    Shape:
        - scores: (I, T), made for cosines
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores); (I + T,) for ``reduction="none"``

    Source:
        Qin et al., *Noisy-Correspondence Learning for Text-to-Image Person Re-identification*, CVPR 2024 (RDE), eq. 8
        with the values of its code for CUHK-PEDES. With ``maximum="hardest"`` it is the TRL of that paper.

    Deviation:
        The authors' code computes the exponentials plainly, NaN for temperatures below 0.0112 and a score of 1, and
        has a NaN gradient where an anchor has no negatives. In its TRL a positive stands among the negatives with the
        score 0, so that negatives below 0 are not seen. There the losses of a pair are multiplied by its label, 1 or 0,
        which two branches of the model agree on; ``reduction="none"`` leaves that to you.

    Example:
        >>> import torch
        >>> triplet_alignment_loss(torch.tensor([[0.9, 0.8], [0.1, 0.9]]), margin=0.2)  # 0.1 of row 0, 0.1 of column 1
        tensor(0.2000)
    """
    check_reduction(reduction)
    _check_options(margin, temperature, maximum)
    scores, positives = check_scores(scores, positives)
    rows = _from_rows(scores, positives, margin, temperature, maximum)
    columns = _from_rows(scores.T, positives.T, margin, temperature, maximum)
    if reduction == "none":
        return torch.cat((rows, columns))
    if reduction == "sum":
        return rows.sum() + columns.sum()
    anchors = [positives.any(dim).sum().clamp(min=1) for dim in (1, 0)]
    return rows.sum() / anchors[0] + columns.sum() / anchors[1]


def _from_rows(scores: Tensor, positives: Tensor, margin: float, temperature: float, maximum: Maximum) -> Tensor:
    logits, negative = scores / temperature, ~positives
    shares = masked_softmax(logits.detach(), positives, 1)  # (I, T)
    own = masked_sum(shares * scores, positives, 1)  # (I,)
    if maximum == "hardest":
        against = masked_max(scores, negative, 1)
    else:
        against = temperature * masked_logsumexp(logits, negative, 1)
    return (margin - own + against).clamp(min=0).masked_fill(~(positives.any(1) & negative.any(1)), 0)


def _check_options(margin: float, temperature: float, maximum: str) -> None:
    check_not_negative("margin", margin)
    check_above_zero("temperature", temperature)
    check_choice("maximum", maximum, "smooth", "hardest")


class TripletAlignmentLoss(ScoreLoss):
    """TAL, the triplet with a smooth maximum, or TRL, with the maximum itself; see :func:`triplet_alignment_loss`.

    Args:
        margin: wanted lead of the positives, in units of the score.
        temperature: of the smooth maximum and of the weights of several positives. Large ones make the loss grow by
            temperature times the log of the number of negatives.
        reduction: sum over the anchors, or their mean.
        maximum: of the negatives, smooth (TAL) or the hardest one (TRL).

    Example:
        >>> import torch
        >>> TripletAlignmentLoss()(torch.eye(3)).item()
        0.0
    """

    level_free = True

    def __init__(
        self,
        margin: float = 0.1,
        temperature: float = 0.015,
        reduction: Total = "sum",
        maximum: Maximum = "smooth",
    ) -> None:
        super().__init__()
        _check_options(margin, temperature, maximum)
        self.margin = margin
        self.temperature = temperature
        self.reduction: Total = check_choice("reduction", reduction, "sum", "mean")
        self.maximum: Maximum = maximum

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return self.call(triplet_alignment_loss, scores, positives)
