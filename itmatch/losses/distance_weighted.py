"""Triplet whose negatives are taken evenly by their distance."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses._common import pairs_of, reduced, value_at_equal_scores
from itmatch.losses.base import ScoreLoss, check_scores
from itmatch.losses.triplet import Reduction
from itmatch.ops.checks import check_choice, check_finite, check_not_negative, check_whole
from itmatch.ops.masking import masked_softmax


def distance_weighted_triplet_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    dim: int,
    margin: float = 0.2,
    cutoff: float = 0.5,
    far: float = 1.4,
    reduction: Reduction = "sum",
    sample: bool = False,
) -> Tensor:
    r"""Expected hinge of each positive pair, the negative drawn with a chance that is even over the distances.

    Formula:
        For cosines, the distance of a pair is :math:`d = \sqrt{2 - 2 s}`, and between points spread evenly over the
        sphere in :math:`n` dimensions it has the density
        :math:`q(d) \propto d^{n-2} (1 - d^2 / 4)^{(n-3)/2}`. Negative :math:`t'` of image :math:`i` is drawn with

        .. math:: w_{it'} \propto \begin{cases} 1 / q(\max(d_{it'}, c)) & d_{it'} \le f \\ 0 & \text{else} \end{cases}

        (all alike where every negative is farther than :math:`f`), and the result is

        .. math:: \sum_{(i,t) \in P} \sum_{t' \in N(i)} w_{it'} [m + s_{it'} - s_{it}]_+
            + \sum_{i' \in N(t)} w_{i't} [m + s_{i't} - s_{it}]_+

        No gradient passes through the weights. ``sample=True`` draws one negative an anchor in place of the inner
        sums, ``reduction="mean"`` divides by :math:`|P|`.

    Shape:
        - scores: (I, T), cosines; beyond [-1, 1] the weights take the nearer bound
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Wu et al., *Sampling Matters in Deep Embedding Learning*, ICCV 2017; the bound of 1.4, beyond which the weight
        would grow again, is that of the authors' code.

    Deviation:
        The expectation in place of a draw. The hinge is of scores: half that of squared distances with margin
        :math:`2 m`.

    Example:
        >>> scores = torch.tensor([[0.9, 0.8, 0.8], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
        >>> distance_weighted_triplet_loss(scores, dim=64)  # three anchors whose likely negative is 0.1 too near
        tensor(0.3000)
    """
    _check_options(dim, margin, cutoff, far, reduction)
    diagonal = positives is None
    scores, positives = check_scores(scores, positives)
    image, caption = pairs_of(positives, diagonal=diagonal)
    total = scores.new_zeros(())
    for s, p, anchor, item in ((scores, positives, image, caption), (scores.T, positives.T, caption, image)):
        weights = _weights(s.detach(), ~p, dim, cutoff, far)[anchor]  # (P, T)
        if sample:
            weights = _one_of(weights)
        hinge = (margin + s[anchor] - s[anchor, item][:, None]).clamp(min=0)
        total = total + (weights * hinge).sum()
    return reduced(total, positives, reduction)


def _weights(scores: Tensor, negative: Tensor, dim: int, cutoff: float, far: float) -> Tensor:
    square = 2 - 2 * scores.clamp(-1, 1)  # (I, T) squared distances
    near = negative & (square <= far**2)
    some = near.any(1, keepdim=True)
    square = square.clamp(min=cutoff**2)
    opposite = (1 - square / 4).clamp(min=1e-8)
    log_weight = (2 - dim) / 2 * square.log() + (3 - dim) / 2 * opposite.log()
    return masked_softmax(log_weight.masked_fill(~some, 0), torch.where(some, near, negative), 1)


def _one_of(weights: Tensor) -> Tensor:
    """One drawn from each row as 1 and the others 0; a row of zeros stays."""
    some = weights.sum(1, keepdim=True) > 0
    drawn = torch.multinomial(weights.masked_fill(~some, 1), 1)
    return torch.zeros_like(weights).scatter(1, drawn, some.to(weights.dtype))


def _check_options(dim: int, margin: float, cutoff: float, far: float, reduction: str) -> None:
    check_whole("dim", dim, 2)
    check_not_negative("margin", margin)
    if not 0 < check_finite("cutoff", cutoff) < check_finite("far", far) <= 2:
        raise ValueError(f"cutoff, far: {cutoff} and {far}, expected 0 < cutoff < far <= 2")
    check_choice("reduction", reduction, "sum", "mean")


class DistanceWeightedTripletLoss(ScoreLoss):
    """Triplet with distance-weighted negatives; see :func:`distance_weighted_triplet_loss`.

    For scores that are cosines of embeddings. The more dimensions, the steeper the weights: with 1024 nearly all of it
    falls on the nearest negatives, and those nearer than ``cutoff`` (a cosine of 0.875) share it evenly.

    Args:
        dim: number of dimensions of the embeddings whose cosines the scores are.
        margin: wanted distance between the score of a positive and that of a negative, in units of the score.
        cutoff: negatives nearer than this are weighted as if they were there, in units of Euclidean distance.
        far: negatives farther than this are not taken, unless all are.
        reduction: sum over the positive pairs, or their mean.
        sample: draw one negative an anchor in place of the expectation; torch's global generator draws.

    Example:
        >>> loss = DistanceWeightedTripletLoss(dim=128)
        >>> loss(torch.eye(3)).item()
        0.0
        >>> round(loss.collapse_value(3, 3), 4)
        1.2
    """

    def __init__(
        self,
        dim: int,
        margin: float = 0.2,
        cutoff: float = 0.5,
        far: float = 1.4,
        reduction: Reduction = "sum",
        *,
        sample: bool = False,
    ) -> None:
        super().__init__()
        _check_options(dim, margin, cutoff, far, reduction)
        self.dim = dim
        self.margin = margin
        self.cutoff = cutoff
        self.far = far
        self.reduction: Reduction = reduction
        self.sample = sample

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return distance_weighted_triplet_loss(
            scores,
            positives,
            dim=self.dim,
            margin=self.margin,
            cutoff=self.cutoff,
            far=self.far,
            reduction=self.reduction,
            sample=self.sample,
        )

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The loss when all scores are equal: ``2 * batch * margin`` for the sum."""
        return value_at_equal_scores(self, num_images, num_captions, positives)

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"dim={self.dim}, margin={self.margin}, cutoff={self.cutoff}, far={self.far}, "
            f"reduction={self.reduction!r}, sample={self.sample}"
        )
