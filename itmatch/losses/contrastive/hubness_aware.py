"""Hubness-aware loss: a negative near many counts more, through the log-sum-exp over all negatives."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.ops.checks import check_above_zero, check_finite
from itmatch.ops.masking import masked_logsumexp, masked_mean


def hubness_aware_loss(
    scores: Tensor, positives: Tensor | None = None, *, temperature: float = 1 / 30, threshold: float = 0.3
) -> Tensor:
    r"""Smooth maximum of the negatives of each image and caption above a threshold, less the log of the positives.

    Formula:
        With the positive pairs :math:`P`, the images :math:`I^+` and captions :math:`T^+` that have a positive, and
        their negatives :math:`N(i)` and :math:`N(t)`,

        .. math::
            \frac{1}{|I^+|} \sum_{i \in I^+} \tau
                \log\Big(1 + \sum_{t \in N(i)} e^{(s_{it} - \epsilon) / \tau}\Big)
            + \frac{1}{|T^+|} \sum_{t \in T^+} \tau
                \log\Big(1 + \sum_{i \in N(t)} e^{(s_{it} - \epsilon) / \tau}\Big)
            - \frac{1}{|P|} \sum_{(i,t) \in P} \log(1 + [s_{it}]_+)

        with the temperature :math:`\tau` and the threshold :math:`\epsilon`. A negative weighs by its share among the
        negatives of its image and of its caption, so a hub, high in many rows, is pushed from all of them. The value
        may be below 0, and for cosines it is least where positives have 1.

    Shape:
        - scores: (I, T), meant for cosines
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Liu et al., *HAL: Improved Text-Image Matching by Mitigating Visual Semantic Hubs*, AAAI 2020, with the local
        weights alone; the global ones need a memory bank. The hinge inside the last logarithm is that of the
        authors' code, as are the values (1 / 30 and 0.3 for COCO; for Flickr30K 1 / 60 and 0.7).

    Deviation:
        The authors' code leaves the positive among the negatives with a score of 0; here it is left out, as in the
        formula of the paper.

    Example:
        >>> import torch
        >>> hubness_aware_loss(torch.eye(2))  # near -ln 2
        tensor(-0.6931)
    """
    _check_options(temperature, threshold)
    scores, positives = check_scores(scores, positives)
    logits = (scores - threshold) / temperature
    negatives = (_from_rows(logits, positives) + _from_rows(logits.T, positives.T)) * temperature
    own = scores.clamp(min=0).log1p().masked_fill(~positives, 0).sum() / positives.sum().clamp(min=1)
    return negatives - own


def _from_rows(logits: Tensor, positives: Tensor) -> Tensor:
    negative = ~positives
    above = softplus(masked_logsumexp(logits, negative, 1)).masked_fill(~negative.any(1), 0)  # (I,)
    return masked_mean(above, positives.any(1), 0)


def _check_options(temperature: float, threshold: float) -> None:
    check_above_zero("temperature", temperature)
    check_finite("threshold", threshold)


class HubnessAwareLoss(ScoreLoss):
    """HAL with its local weights; see :func:`hubness_aware_loss`.

    Positives below 0 receive no gradient (the hinge in the logarithm); negatives push from any score.

    Args:
        temperature: of the smooth maximum; towards 0 it tends to the hardest negative.
        threshold: negatives well below it cost nothing, in units of the score.

    Example:
        >>> import torch
        >>> loss = HubnessAwareLoss(temperature=1 / 60, threshold=0.7)
        >>> bool(loss(torch.eye(4)) < loss(torch.ones(4, 4)))
        True
    """

    def __init__(self, temperature: float = 1 / 30, threshold: float = 0.3) -> None:
        super().__init__()
        _check_options(temperature, threshold)
        self.temperature = temperature
        self.threshold = threshold

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return self.call(hubness_aware_loss, scores, positives)
