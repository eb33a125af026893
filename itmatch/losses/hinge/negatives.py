"""Which negatives a hinge counts: rules that make one number of the hinges of a positive pair with its negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from itmatch.losses.checks import pairs_of
from itmatch.ops.checks import check_choice, check_finite, check_not_negative, check_whole
from itmatch.ops.masking import masked_max, masked_mean, masked_softmax
from itmatch.spec import Configurable

NegativesName = Literal["hardest", "all", "semi-hard"]


class Negatives(Configurable, ABC):
    """A rule for the negatives of a hinge loss. Subclass it and implement :meth:`chosen` to write your own.

    Example:
        >>> class Mean(Negatives):
        ...     def chosen(self, hinge: Tensor, scores: Tensor, own: Tensor, negative: Tensor) -> Tensor:
        ...         return masked_mean(hinge, negative, 1)
        >>> from itmatch.losses import HardNegativeTripletLoss
        >>> round(HardNegativeTripletLoss(negatives=Mean())(torch.zeros(3, 3)).item(), 4)
        1.2
    """

    @abstractmethod
    def chosen(self, hinge: Tensor, scores: Tensor, own: Tensor, negative: Tensor) -> Tensor:
        """What a positive pair loses, from its hinge with each negative of its row.

        Shape:
            - hinge: (P, T), :math:`[m + s_{t'} - s]_+` for every candidate; read it at the negatives alone
            - scores: (P, T), scores of the candidates
            - own: (P,), score of the pair
            - negative: (P, T) bool; a row may be without any, and then has loss 0
            - result: (P,)
        """

    def of_rows(self, scores: Tensor, positives: Tensor, margin: float, *, diagonal: bool) -> Tensor:
        """What each positive pair loses against the negatives of its row, (I, T), 0 elsewhere."""
        row, column = pairs_of(positives, diagonal=diagonal)
        own = scores[row, column]  # (P,)
        hinge = (margin + scores[row] - own[:, None]).clamp(min=0)  # (P, T)
        lost = self.chosen(hinge, scores[row], own, ~positives[row])
        return torch.zeros_like(scores).index_put((row, column), lost)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class _Hardest(Negatives):
    def chosen(self, hinge: Tensor, scores: Tensor, own: Tensor, negative: Tensor) -> Tensor:
        return masked_max(hinge, negative, 1)

    def of_rows(self, scores: Tensor, positives: Tensor, margin: float, *, diagonal: bool) -> Tensor:
        # The maximum and the hinge commute, so one maximum per row serves all positives of that row.
        negative = ~positives
        hardest = masked_max(scores, negative, 1)[:, None]
        counted = positives & negative.any(1, keepdim=True)
        return (margin + hardest - scores).clamp(min=0).masked_fill(~counted, 0)


class _All(Negatives):
    def chosen(self, hinge: Tensor, scores: Tensor, own: Tensor, negative: Tensor) -> Tensor:
        return hinge.masked_fill(~negative, 0).sum(1)


class _SemiHard(Negatives):
    def chosen(self, hinge: Tensor, scores: Tensor, own: Tensor, negative: Tensor) -> Tensor:
        below = negative & ~(scores >= own[:, None])  # asked this way round, NaN is below and shows in the loss
        easiest = -masked_max(-hinge, negative, 1)
        return torch.where(below.any(1), masked_max(hinge, below, 1), easiest)


class SelectiveNegatives(Negatives):
    r"""The hardest negative, or the mean over all negatives where the hardest ties with the positive.

    It needs no epochs of warm-up. The criterion is the authors' condition of a vanishing gradient: as a model
    collapses, the embeddings of a positive and of its hardest negative coincide, and the hinge between the two moves
    neither.

    Formula:
        For a positive pair :math:`(i, t)` and the negatives :math:`N(i)` of its image, with the hardest of them at
        :math:`n_i = \max_{t' \in N(i)} s_{it'}`,

        .. math:: L_{it} = \begin{cases}
            \frac{1}{|N(i)|} \sum_{t' \in N(i)} [m + s_{it'} - s_{it}]_+ & |s_{it} - n_i| < \epsilon \\
            [m + n_i - s_{it}]_+ & \text{otherwise} \end{cases}

    Args:
        epsilon: a hardest negative nearer to the positive than this makes all negatives count; 0 never does.

    Source:
        Li et al., *Selectively Hard Negative Mining for Alleviating Gradient Vanishing in Image-Text Matching* (SelHN),
        arXiv 2303.00181, 2023 (IEEE TCSVT 2024), on cosines; epsilon is that of the authors' code.

    Deviation:
        The authors average over the two directions too, so their value is half of ``reduction="mean"``.

    Example:
        >>> from itmatch.losses import hard_negative_triplet_loss
        >>> scores = torch.tensor([[0.5, 0.5, 0.1], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
        >>> hard_negative_triplet_loss(scores, negatives=SelectiveNegatives())  # image 0: the mean of 0.2 and 0
        tensor(0.1000)
    """

    def __init__(self, epsilon: float = 0.01) -> None:
        self.epsilon = check_not_negative("epsilon", epsilon)

    def chosen(self, hinge: Tensor, scores: Tensor, own: Tensor, negative: Tensor) -> Tensor:
        """The mean of the hinges where the hardest negative ties with the positive, else their maximum."""
        gap = (own - masked_max(scores, negative, 1)).abs()
        return torch.where(gap < self.epsilon, masked_mean(hinge, negative, 1), masked_max(hinge, negative, 1))


class DistanceWeightedNegatives(Negatives):
    r"""The expected hinge with a negative that is drawn evenly over the distances.

    For scores that are cosines of embeddings. The more dimensions, the steeper the weights: with 1024 nearly all of it
    falls on the nearest negatives, and those nearer than ``cutoff`` (a cosine of 0.875) share it evenly.

    Formula:
        For cosines, the distance of a pair is :math:`d = \sqrt{2 - 2 s}`, and between points spread evenly over the
        sphere in :math:`n` dimensions it has the density
        :math:`q(d) \propto d^{n-2} (1 - d^2 / 4)^{(n-3)/2}`. Negative :math:`t'` of image :math:`i` is drawn with

        .. math:: w_{it'} \propto \begin{cases} 1 / q(\max(d_{it'}, c)) & d_{it'} \le f \\ 0 & \text{else} \end{cases}

        (all alike where every negative is farther than :math:`f`), and the pair loses
        :math:`\sum_{t' \in N(i)} w_{it'} [m + s_{it'} - s_{it}]_+`. No gradient passes through the weights; beyond
        [-1, 1] they take the nearer bound.

    Args:
        dim: number of dimensions of the embeddings whose cosines the scores are.
        cutoff: negatives nearer than this are weighted as if they were there, in units of Euclidean distance.
        far: negatives farther than this are not taken, unless all are.
        sample: draw one negative in place of the expectation; torch's global generator draws.

    Source:
        Wu et al., *Sampling Matters in Deep Embedding Learning*, ICCV 2017; the bound of 1.4, beyond which the weight
        would grow again, is that of the authors' code.

    Deviation:
        The expectation in place of a draw. The hinge is of scores: half that of squared distances with margin
        :math:`2 m`.

    Example:
        >>> from itmatch.losses import hard_negative_triplet_loss
        >>> scores = torch.tensor([[0.9, 0.8, 0.8], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
        >>> rule = DistanceWeightedNegatives(dim=64)  # three anchors have a likely negative that is 0.1 too near
        >>> hard_negative_triplet_loss(scores, negatives=rule)
        tensor(0.3000)
    """

    def __init__(self, dim: int, cutoff: float = 0.5, far: float = 1.4, *, sample: bool = False) -> None:
        check_whole("dim", dim, 2)
        if not 0 < check_finite("cutoff", cutoff) < check_finite("far", far) <= 2:
            raise ValueError(f"cutoff, far: {cutoff} and {far}, expected 0 < cutoff < far <= 2")
        self.dim, self.cutoff, self.far, self.sample = dim, cutoff, far, sample

    def chosen(self, hinge: Tensor, scores: Tensor, own: Tensor, negative: Tensor) -> Tensor:
        """The weighted sum of the hinges."""
        weights = self.weights(scores, negative)
        return ((_one_of(weights) if self.sample else weights) * hinge).sum(1)

    def weights(self, scores: Tensor, negative: Tensor) -> Tensor:
        """How likely each negative is drawn (P, T), from scores (P, T) and the mask of negatives (P, T)."""
        square = 2 - 2 * scores.detach().clamp(-1, 1)  # (P, T) squared distances
        near = negative & (square <= self.far**2)
        some = near.any(1, keepdim=True)
        square = square.clamp(min=self.cutoff**2)
        opposite = (1 - square / 4).clamp(min=1e-8)
        log_weight = (2 - self.dim) / 2 * square.log() + (3 - self.dim) / 2 * opposite.log()
        return masked_softmax(log_weight.masked_fill(~some, 0), torch.where(some, near, negative), 1)


def _one_of(weights: Tensor) -> Tensor:
    """One drawn from each row as 1 and the others 0; a row of zeros stays."""
    some = weights.sum(1, keepdim=True) > 0
    drawn = torch.multinomial(weights.masked_fill(~some, 1), 1)
    return torch.zeros_like(weights).scatter(1, drawn, some.to(weights.dtype))


_BY_NAME: dict[str, Negatives] = {"hardest": _Hardest(), "all": _All(), "semi-hard": _SemiHard()}


def rule_of(negatives: NegativesName | Negatives) -> Negatives:
    """The rule of a name; a rule stays as it is.

    Raises:
        ValueError: no rule of that name.
    """
    if isinstance(negatives, Negatives):
        return negatives
    return _BY_NAME[check_choice("negatives", negatives, *_BY_NAME)]
