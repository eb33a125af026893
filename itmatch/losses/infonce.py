"""InfoNCE: every positive against the negatives of its image, and against those of its caption."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from itmatch.losses.base import ScoreLoss, check_scores, even_positives
from itmatch.ops.checks import check_above_zero
from itmatch.ops.masking import masked_logsumexp


def info_nce_loss(scores: Tensor, positives: Tensor | None = None, *, scale: float | Tensor = 1 / 0.07) -> Tensor:
    r"""Symmetric cross-entropy of the positives, with several positives an image or a caption.

    Formula:
        With :math:`z = \text{scale} \cdot s`, the positives :math:`P(i)` and the negatives :math:`N(i)` of an image,

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
    if not isinstance(scale, Tensor):
        check_above_zero("scale", scale)
    scores, positives = check_scores(scores, positives)
    logits = scores * scale
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
        max_scale: largest 1 / temperature that learning may reach. The parameter is cut back to it before each use in
            training, so that it cannot wander off where its gradient says nothing.

    Example:
        >>> loss = InfoNCELoss(temperature=0.05)
        >>> round(loss(torch.eye(4)).item(), 6)
        0.0
        >>> round(loss.collapse_value(4, 4), 4)  # ln 4
        1.3863
    """

    def __init__(self, temperature: float = 0.07, *, learnable: bool = False, max_scale: float = 100.0) -> None:
        super().__init__()
        check_above_zero("temperature", temperature)
        check_above_zero("max_scale", max_scale)
        if learnable and 1 / temperature > max_scale * (1 + 1e-6):
            raise ValueError(
                f"temperature: {temperature} is a scale of {1 / temperature:g}, above max_scale={max_scale}"
            )
        self.temperature = temperature
        self.max_scale = max_scale
        self.log_scale = nn.Parameter(torch.tensor([math.log(1 / temperature)])) if learnable else None

    @property
    def scale(self) -> float | Tensor:
        """1 / temperature as it is now."""
        return 1 / self.temperature if self.log_scale is None else self.log_scale.exp()

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        if self.log_scale is not None and self.training:
            with torch.no_grad():
                self.log_scale.clamp_(max=math.log(self.max_scale))
        return info_nce_loss(scores, positives, scale=self.scale)

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The loss when all scores are equal: ln(batch) when nothing repeats, whatever the temperature."""
        mask = even_positives(num_images, num_captions) if positives is None else positives
        if mask is None:
            return None
        return info_nce_loss(torch.zeros(mask.shape, device=mask.device), mask, scale=1.0).item() or None

    def extra_repr(self) -> str:
        """The settings."""
        return f"temperature={self.temperature}, learnable={self.log_scale is not None}, max_scale={self.max_scale}"
