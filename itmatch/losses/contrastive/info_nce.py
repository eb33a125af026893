"""InfoNCE: every positive against the negatives of its image, and against those of its caption."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.ops.checks import check_above_zero
from itmatch.ops.masking import masked_logsumexp


def info_nce_loss(scores: Tensor, positives: Tensor | None = None, *, temperature: float | Tensor = 0.07) -> Tensor:
    r"""Symmetric cross-entropy of the positives, with several positives per image or caption.

    Formula:
        With :math:`z = s / \tau` for a temperature :math:`\tau`, the positives :math:`P(i)` and the negatives
        :math:`N(i)` of an image,

        .. math:: L_{i2t} = \frac{1}{|I^+|} \sum_{i \in I^+} \frac{1}{|P(i)|} \sum_{t \in P(i)}
            -\log \frac{e^{z_{it}}}{e^{z_{it}} + \sum_{t' \in N(i)} e^{z_{it'}}}

        over the images :math:`I^+` that have a positive; :math:`L_{t2i}` is the same for the transposed matrix, and
        the result is :math:`(L_{i2t} + L_{t2i}) / 2`. Other positives are absent from the denominator: captions of
        the same image do not push each other away. With one positive each it is the usual symmetric cross-entropy.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        van den Oord et al., *Representation Learning with Contrastive Predictive Coding*, 2018; the symmetric form is
        that of CLIP (Radford et al., ICML 2021), several positives as in SINCERE (Feeney and Hughes, 2023).

    Deviation:
        The code of CHAN adds the two directions instead of averaging them, so its values are twice these.

    Example:
        >>> info_nce_loss(torch.zeros(2, 2))  # ln 2
        tensor(0.6931)
    """
    if not isinstance(temperature, Tensor):
        check_above_zero("temperature", temperature)
    scores, positives = check_scores(scores, positives)
    logits = scores / temperature
    return (_from_rows(logits, positives) + _from_rows(logits.T, positives.T)) / 2


def _from_rows(logits: Tensor, positives: Tensor) -> Tensor:
    negative = ~positives
    against = masked_logsumexp(logits, negative, 1)[:, None]  # (I, 1)
    counted = positives & negative.any(1, keepdim=True)  # without negatives the fraction is 1
    loss = -logsigmoid(logits - against).masked_fill(~counted, 0)  # (I, T)
    count = positives.sum(1)
    return (loss.sum(1) / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


class InfoNCELoss(ScoreLoss):
    """Symmetric InfoNCE with a fixed or learned temperature; see :func:`info_nce_loss`.

    Args:
        temperature: scores are divided by it; the starting value when it is learned.
        learnable: learn it, as the parameter ``log_scale`` = ln(1 / temperature).
        min_temperature: the smallest that learning may reach. The parameter is cut back to it before each use in
            training, so that it cannot wander off where its gradient says nothing.

    Example:
        >>> loss = InfoNCELoss(temperature=0.05)
        >>> round(loss(torch.eye(4)).item(), 6)
        0.0
        >>> from itmatch.losses import Matches
        >>> round(loss.collapse_value(Matches(torch.eye(4))), 4)  # ln 4
        1.3863
    """

    level_free = True

    def __init__(self, temperature: float = 0.07, *, learnable: bool = False, min_temperature: float = 0.01) -> None:
        super().__init__()
        check_above_zero("temperature", temperature)
        check_above_zero("min_temperature", min_temperature)
        if learnable and temperature < min_temperature * (1 - 1e-6):
            raise ValueError(f"temperature: {temperature}, expected at least min_temperature, {min_temperature}")
        self.temperature = temperature
        self.min_temperature = min_temperature
        self.log_scale = nn.Parameter(torch.tensor([-math.log(temperature)])) if learnable else None

    @property
    def current_temperature(self) -> float | Tensor:
        """The temperature as it is now."""
        return self.temperature if self.log_scale is None else (-self.log_scale).exp()

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        if self.log_scale is not None and self.training:
            with torch.no_grad():
                self.log_scale.clamp_(max=-math.log(self.min_temperature))
        return info_nce_loss(scores, positives, temperature=self.current_temperature)
