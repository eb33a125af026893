"""Circle loss: each score is pulled as strongly as it is far from where it belongs."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.ops.checks import check_above_zero, check_not_negative
from itmatch.ops.masking import masked_logsumexp


def circle_loss(
    scores: Tensor, positives: Tensor | None = None, *, margin: float = 0.25, temperature: float = 1 / 128
) -> Tensor:
    r"""Circle loss of the rows and of the columns of a score matrix.

    Formula:
        For an image with positives :math:`P(i)` and negatives :math:`N(i)`,

        .. math:: L(i) = \log\Big(1 + \sum_{t \in N(i)} e^{[s_{it} + m]_+ (s_{it} - m) / \tau}
            \sum_{t \in P(i)} e^{-[1 + m - s_{it}]_+ (s_{it} - 1 + m) / \tau}\Big)

        with the margin :math:`m` and the temperature :math:`\tau`. The two factors in :math:`[\cdot]_+` are weights: no
        gradient passes through them. The result is half the mean over the images that have a positive plus half that
        over the captions; an image without negatives has :math:`L(i) = 0`.

    Shape:
        - scores: (I, T), made for cosines
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Sun et al., *Circle Loss: A Unified Perspective of Pair Similarity Optimization*, CVPR 2020, its form for
        pair labels. A margin of 0.25 and :math:`\gamma = 1 / \tau` = 128 are those for person re-identification.

    Deviation:
        The paper has one set of items; here images and captions are anchors in turn, and the two are averaged.

    Example:
        >>> import torch
        >>> circle_loss(torch.eye(2), temperature=1 / 16)  # ln(1 + 1/e^2)
        tensor(0.1269)
    """
    _check_options(margin, temperature)
    scores, positives = check_scores(scores, positives)
    fixed = scores.detach()
    against = (fixed + margin).clamp(min=0) * (scores - margin) / temperature  # (I, T) read at the negatives
    behind = -(1 + margin - fixed).clamp(min=0) * (scores - 1 + margin) / temperature  # (I, T) read at the positives
    return (_from_rows(against, behind, positives) + _from_rows(against.T, behind.T, positives.T)) / 2


def _from_rows(against: Tensor, behind: Tensor, positives: Tensor) -> Tensor:
    negative, anchor = ~positives, positives.any(1)
    loss = softplus(masked_logsumexp(against, negative, 1) + masked_logsumexp(behind, positives, 1))  # (I,)
    return loss.masked_fill(~(anchor & negative.any(1)), 0).sum() / anchor.sum().clamp(min=1)


def _check_options(margin: float, temperature: float) -> None:
    if check_not_negative("margin", margin) >= 1:
        raise ValueError(f"margin: {margin}, expected from 0 to below 1")
    check_above_zero("temperature", temperature)


class CircleLoss(ScoreLoss):
    """Circle loss on the rows and columns of the scores; see :func:`circle_loss`.

    Args:
        margin: positives are to come above 1 - margin and negatives below margin.
        temperature: 1 over the scale gamma, which is 256, 128 and 80 in the paper, by task.

    Example:
        >>> import torch
        >>> round(CircleLoss()(torch.eye(3)).item(), 6)
        0.0
    """

    def __init__(self, margin: float = 0.25, temperature: float = 1 / 128) -> None:
        super().__init__()
        _check_options(margin, temperature)
        self.margin = margin
        self.temperature = temperature

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return self.call(circle_loss, scores, positives)
