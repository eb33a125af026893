"""Triplet that takes the hardest negative, except where its gradient would vanish."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses._common import pairs_of, reduced, value_at_equal_scores
from itmatch.losses.base import ScoreLoss, check_scores
from itmatch.losses.triplet import Reduction
from itmatch.ops.checks import check_choice, check_not_negative
from itmatch.ops.masking import masked_max, masked_mean


def selective_hard_negative_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    margin: float = 0.2,
    epsilon: float = 0.01,
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge with the hardest negative, or the mean over all negatives where the hardest ties with the positive.

    Formula:
        For a positive pair :math:`(i, t)` and the negatives :math:`N(i)` of its image, with the hardest of them at
        :math:`n_i = \max_{t' \in N(i)} s_{it'}`,

        .. math:: L_{it} = \begin{cases}
            \frac{1}{|N(i)|} \sum_{t' \in N(i)} [m + s_{it'} - s_{it}]_+ & |s_{it} - n_i| < \epsilon \\
            [m + n_i - s_{it}]_+ & \text{otherwise} \end{cases}

        to which the same for the negatives of the caption is added. The result is the sum over the positive pairs, or
        with ``reduction="mean"`` their mean. No negatives give 0.

        The criterion is the authors' condition of a vanishing gradient: as a model collapses, the embeddings of a
        positive and of its hardest negative coincide, and the hinge between the two moves neither.

    Shape:
        - scores: (I, T), cosines for the published epsilon
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Li et al., *Selectively Hard Negative Mining for Alleviating Gradient Vanishing in Image-Text Matching* (SelHN),
        arXiv 2303.00181, 2023 (IEEE TCSVT 2024); the margin and epsilon are those of the authors' code.

    Deviation:
        The authors average over the two directions too, so their value is half of ``reduction="mean"``.

    Example:
        >>> scores = torch.tensor([[0.5, 0.5, 0.1], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
        >>> selective_hard_negative_loss(scores)  # image 0: the mean of 0.2 and 0, for its hardest is at 0.5
        tensor(0.1000)
    """
    _check_options(margin, epsilon, reduction)
    diagonal = positives is None
    scores, positives = check_scores(scores, positives)
    image, caption = pairs_of(positives, diagonal=diagonal)
    rows = _from_rows(scores, positives, image, caption, margin, epsilon)
    columns = _from_rows(scores.T, positives.T, caption, image, margin, epsilon)
    return reduced(rows + columns, positives, reduction)


def _from_rows(
    scores: Tensor, positives: Tensor, anchor: Tensor, item: Tensor, margin: float, epsilon: float
) -> Tensor:
    own = scores[anchor, item]  # (P,)
    negative = ~positives[anchor]  # (P, T)
    hinge = (margin + scores[anchor] - own[:, None]).clamp(min=0)  # (P, T)
    gap = (own - masked_max(scores, ~positives, 1)[anchor]).abs()
    return torch.where(gap < epsilon, masked_mean(hinge, negative, 1), masked_max(hinge, negative, 1)).sum()


def _check_options(margin: float, epsilon: float, reduction: str) -> None:
    check_not_negative("margin", margin)
    check_not_negative("epsilon", epsilon)
    check_choice("reduction", reduction, "sum", "mean")


class SelectiveHardNegativeLoss(ScoreLoss):
    """Hardest negative or all of them, pair by pair; see :func:`selective_hard_negative_loss`.

    It needs no epochs of warm-up, which :class:`HardNegativeTripletLoss` may.

    Args:
        margin: wanted distance between the score of a positive and that of a negative, in units of the score.
        epsilon: a hardest negative nearer to the positive than this makes all negatives count; 0 never does.
        reduction: sum over the positive pairs, or their mean.

    Example:
        >>> loss = SelectiveHardNegativeLoss(margin=0.2)
        >>> loss(torch.eye(3)).item()
        0.0
        >>> round(loss.collapse_value(3, 3), 4)
        1.2
    """

    def __init__(self, margin: float = 0.2, epsilon: float = 0.01, reduction: Reduction = "sum") -> None:
        super().__init__()
        _check_options(margin, epsilon, reduction)
        self.margin = margin
        self.epsilon = epsilon
        self.reduction: Reduction = reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return selective_hard_negative_loss(
            scores, positives, margin=self.margin, epsilon=self.epsilon, reduction=self.reduction
        )

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The loss when all scores are equal: ``2 * batch * margin`` for the sum."""
        return value_at_equal_scores(self, num_images, num_captions, positives)

    def extra_repr(self) -> str:
        """The settings."""
        return f"margin={self.margin}, epsilon={self.epsilon}, reduction={self.reduction!r}"
