"""Triplet whose margin grows with how unlike the positive a negative is."""

from __future__ import annotations

from torch import Tensor

from itmatch.losses._common import check_grades, value_at_equal_scores
from itmatch.losses.base import ScoreLoss, check_scores
from itmatch.losses.triplet import Negatives, Reduction, hard_negative_triplet_loss
from itmatch.ops.checks import check_choice, check_not_negative


def adaptive_margin_triplet_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    similarity: Tensor | None = None,
    margin: float = 0.2,
    negatives: Negatives = "hardest",
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge between each positive and its negatives, each negative with a margin of its own.

    Formula:
        With a given similarity :math:`\phi_{it}` of image and caption, the margin between a positive :math:`(i, t)`
        and a negative :math:`(i, t')` is

        .. math:: m_{i t t'} = m \, (\phi_{it} - \phi_{it'})

        and likewise for the negatives of a caption; the rest is :func:`hard_negative_triplet_loss`, where the hardest
        negative is now the one with the largest hinge. Where :math:`\phi` is 1 at the positives, the margin of a
        negative is :math:`m (1 - \phi_{it'})`. Without ``similarity`` it is 1 at the positives and 0 elsewhere, and
        the margin is constant. A negative that is more similar than the positive may stand above it.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - similarity: (I, T) floating, from 0 to 1, or None
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Biten et al., *Is An Image Worth Five Sentences? A New Look into Semantics for Image-Text Matching*, WACV 2022:
        the semantic adaptive margin (SAM), a difference of CIDEr scores divided by a constant. That constant is
        1 / ``margin`` here.

    Deviation:
        The paper takes one negative an anchor, at random or by its score, cuts margins above 1, and adds the result
        to the loss of the model. Here it is the loss, with the largest hinge or all of them, and nothing is cut (in
        [0, 1] the similarity needs none).

    Example:
        >>> import torch
        >>> scores, similarity = torch.tensor([[0.9, 0.8], [0.1, 0.9]]), torch.tensor([[1.0, 0.5], [0.0, 1.0]])
        >>> adaptive_margin_triplet_loss(scores)
        tensor(0.2000)
        >>> adaptive_margin_triplet_loss(scores, similarity=similarity)  # a margin of 0.1 is met
        tensor(0.)
    """
    _check_options(margin, negatives, reduction)
    given = positives
    scores, positives = check_scores(scores, positives)
    grades = (
        positives.to(scores.dtype) if similarity is None else check_grades("similarity", similarity, scores, 0.0, 1.0)
    )
    # m (phi_p - phi_n) + s_n - s_p is the hinge without a margin of what is left of each score
    left = scores - margin * grades
    return hard_negative_triplet_loss(left, given, margin=0.0, negatives=negatives, reduction=reduction)


def _check_options(margin: float, negatives: str, reduction: str) -> None:
    check_not_negative("margin", margin)
    check_choice("negatives", negatives, "hardest", "all")
    check_choice("reduction", reduction, "sum", "mean")


class AdaptiveMarginTripletLoss(ScoreLoss):
    """Triplet with a margin that follows a given similarity; see :func:`adaptive_margin_triplet_loss`.

    Args:
        margin: the margin of a negative of similarity 0 to a positive of similarity 1, in units of the score.
        negatives: the negative with the largest hinge of each positive, or all of them.
        reduction: sum over the positive pairs, or their mean.

    Example:
        >>> import torch
        >>> loss = AdaptiveMarginTripletLoss(margin=0.4)
        >>> loss(torch.eye(3), similarity=torch.eye(3)).item()
        0.0
    """

    def __init__(self, margin: float = 0.2, negatives: Negatives = "hardest", reduction: Reduction = "sum") -> None:
        super().__init__()
        _check_options(margin, negatives, reduction)
        self.margin = margin
        self.negatives: Negatives = negatives
        self.reduction: Reduction = reduction

    def forward(self, scores: Tensor, positives: Tensor | None = None, *, similarity: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T), with the similarity of the pairs (I, T) or a constant margin."""
        return adaptive_margin_triplet_loss(
            scores,
            positives,
            similarity=similarity,
            margin=self.margin,
            negatives=self.negatives,
            reduction=self.reduction,
        )

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The loss when all scores are equal and no similarity is given: that of the triplet."""
        return value_at_equal_scores(self, num_images, num_captions, positives)

    def extra_repr(self) -> str:
        """The settings."""
        return f"margin={self.margin}, negatives={self.negatives!r}, reduction={self.reduction!r}"
