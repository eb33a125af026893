"""Polynomial loss: a positive and its hardest negative are weighted by polynomials of their scores."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.losses.reductions import Reduction, check_reduction, reduced
from itmatch.ops.checks import check_finite, check_list, check_not_negative
from itmatch.ops.masking import masked_max

POSITIVE = (0.5, -0.7, 0.2)  # 0.2 (s - 1) (s - 2.5): falls to 0 at s = 1
NEGATIVE = (0.03, -0.4, 0.9)


def polynomial_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    margin: float = 0.2,
    positive_coefficients: Sequence[float] = POSITIVE,
    negative_coefficients: Sequence[float] = NEGATIVE,
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Polynomial of each informative positive, and of the hardest negatives of its image and of its caption.

    Formula:
        Let :math:`n_i` be the highest score of the captions that do not describe image :math:`i`, and :math:`n_t`
        that of the images that caption :math:`t` does not describe. For every positive pair :math:`(i, t)` and each
        :math:`n` of :math:`n_i, n_t` that is informative, :math:`n + m > s_{it}`,

        .. math:: \Big[\sum_k a_k s_{it}^k\Big]_+ + \Big[\sum_k b_k n^k\Big]_+

        is added. The slopes of the two polynomials are the weights of the pair and of its negative.
        ``reduction="mean"`` divides by the number of positive pairs, ``"none"`` gives one number per positive pair.

    Shape:
        - scores: (I, T), meant for cosines
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores); (P,) for ``reduction="none"``

    Source:
        Wei et al., *Universal Weighting Metric Learning for Cross-Modal Matching*, CVPR 2020: the form with the
        hardest negative. The coefficients, the margin and the two separate hinges are those of the authors' code.

    Deviation:
        The authors' code skips positives above 0.99999; nothing is skipped here (the positives' polynomial is 0 from 1
        to 2.5). Several positives of an anchor are compared with its hardest negative one by one.

    Example:
        >>> import torch
        >>> polynomial_loss(torch.tensor([[0.5, 0.4], [0.0, 0.9]]))  # 0.2 for 0.5, and 0.014 for 0.4
        tensor(0.2140)
    """
    _check_options(margin, positive_coefficients, negative_coefficients, reduction)
    scores, positives = check_scores(scores, positives)
    negative = ~positives
    own = _polynomial(scores, positive_coefficients).clamp(min=0)  # (I, T)
    lost = scores.new_zeros(scores.shape)
    for dim in (1, 0):
        hardest = masked_max(scores, negative, dim).unsqueeze(dim)  # (I, 1) or (1, T)
        other = _polynomial(hardest, negative_coefficients).clamp(min=0)
        easy = hardest + margin <= scores  # asked this way round, NaN is not easy and shows in the loss
        counted = positives & negative.any(dim, keepdim=True) & ~easy
        lost = lost + (own + other).masked_fill(~counted, 0)
    return reduced(lost, positives, reduction)


def _polynomial(values: Tensor, coefficients: Sequence[float]) -> Tensor:
    result = values.new_full(values.shape, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * values + coefficient
    return result


def _check_options(margin: float, positive: Sequence[float], negative: Sequence[float], reduction: str) -> None:
    check_not_negative("margin", margin)
    check_reduction(reduction)
    for name, coefficients in (("positive_coefficients", positive), ("negative_coefficients", negative)):
        if not check_list(name, coefficients):
            raise ValueError(f"{name}: none, expected at least the constant one")
        for k, value in enumerate(coefficients):
            check_finite(f"{name}[{k}]", value)


class PolynomialLoss(ScoreLoss):
    """Polynomial weighting of a positive and its hardest negative; see :func:`polynomial_loss`.

    The coefficients are made for cosines from 0 to 1: an informative negative is pushed down from 0.35 on, where the
    polynomial of the negatives is above 0 and rises, left alone from 0.10 on, and pushed up below that.

    Args:
        margin: a positive counts while its hardest negative comes nearer than this, in units of the score.
        positive_coefficients: of the polynomial of a positive's score, that of power 0 first.
        negative_coefficients: of the polynomial of a negative's score, that of power 0 first.
        reduction: sum over the positive pairs, their mean, or one number per pair.

    Example:
        >>> import torch
        >>> PolynomialLoss()(torch.eye(3)).item()
        0.0
    """

    def __init__(
        self,
        margin: float = 0.2,
        positive_coefficients: Sequence[float] = POSITIVE,
        negative_coefficients: Sequence[float] = NEGATIVE,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        _check_options(margin, positive_coefficients, negative_coefficients, reduction)
        self.margin = margin
        self.positive_coefficients = tuple(positive_coefficients)
        self.negative_coefficients = tuple(negative_coefficients)
        self.reduction: Reduction = reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return self.call(polynomial_loss, scores, positives)
