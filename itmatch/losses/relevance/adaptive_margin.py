"""Triplet whose margin grows with how unlike the positive a negative is."""

from __future__ import annotations

from torch import Tensor

from itmatch.losses.checks import check_relevance, check_scores
from itmatch.losses.hinge.negatives import Negatives, NegativesName, rule_of
from itmatch.losses.hinge.triplet import hard_negative_triplet_loss
from itmatch.losses.reductions import Reduction, check_reduction
from itmatch.losses.relevance.base import RelevanceLoss
from itmatch.ops.checks import check_not_negative


def adaptive_margin_triplet_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    relevance: Tensor | None = None,
    margin: float = 0.2,
    negatives: NegativesName | Negatives = "hardest",
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge between each positive and its negatives, each negative with a margin of its own.

    Formula:
        With the relevance :math:`\phi_{it}` of a caption for an image, the margin between a positive :math:`(i, t)`
        and a negative :math:`(i, t')` is

        .. math:: m_{i t t'} = m \, (\phi_{it} - \phi_{it'})

        and likewise for the negatives of a caption; the rest is :func:`hard_negative_triplet_loss`, where the hardest
        negative is now the one with the largest hinge. Where :math:`\phi` is 1 at the positives, the margin of a
        negative is :math:`m (1 - \phi_{it'})`. Without ``relevance`` it is 1 at the positives and 0 elsewhere, and
        the margin is constant. A negative that is more relevant than the positive may stand above it.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - relevance: (I, T) floating, from 0 to 1, or None
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Biten et al., *Is An Image Worth Five Sentences? A New Look into Semantics for Image-Text Matching*, WACV 2022:
        the semantic adaptive margin (SAM), a difference of CIDEr scores divided by a constant. That constant is
        1 / ``margin`` here.

    Deviation:
        The paper takes one negative an anchor, at random or by its score, cuts margins above 1, and adds the result
        to the loss of the model. Here it is the loss, with the largest hinge or all of them, and nothing is cut (in
        [0, 1] the relevance needs none).

    Example:
        >>> import torch
        >>> scores, relevance = torch.tensor([[0.9, 0.8], [0.1, 0.9]]), torch.tensor([[1.0, 0.5], [0.0, 1.0]])
        >>> adaptive_margin_triplet_loss(scores)
        tensor(0.2000)
        >>> adaptive_margin_triplet_loss(scores, relevance=relevance)  # a margin of 0.1 is met
        tensor(0.)
    """
    check_not_negative("margin", margin)
    given = positives
    scores, positives = check_scores(scores, positives)
    grades = positives.to(scores.dtype) if relevance is None else check_relevance(relevance, scores)
    # m (phi_p - phi_n) + s_n - s_p is the hinge without a margin of what is left of each score
    left = scores - margin * grades
    return hard_negative_triplet_loss(left, given, margin=0.0, negatives=negatives, reduction=reduction)


class AdaptiveMarginTripletLoss(RelevanceLoss):
    r"""Triplet with a margin that follows the relevance; see :func:`adaptive_margin_triplet_loss`.

    Args:
        margin: the margin of a negative of relevance 0 to a positive of relevance 1, in units of the score.
        negatives: as in the triplet; the scores of a rule are here :math:`s - m \phi`.
        reduction: sum over the positive pairs, their mean, or one number per pair.

    Example:
        >>> import torch
        >>> loss = AdaptiveMarginTripletLoss(margin=0.4)
        >>> loss(torch.eye(3), relevance=torch.eye(3)).item()
        0.0
    """

    level_free = True

    def __init__(
        self, margin: float = 0.2, negatives: NegativesName | Negatives = "hardest", reduction: Reduction = "sum"
    ) -> None:
        super().__init__()
        rule_of(negatives)
        check_reduction(reduction)
        self.margin = check_not_negative("margin", margin)
        self.negatives: NegativesName | Negatives = negatives
        self.reduction: Reduction = reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None, *, relevance: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T), with the relevance of the pairs (I, T) or a constant margin."""
        return self.call(adaptive_margin_triplet_loss, scores, positives, relevance=relevance)
