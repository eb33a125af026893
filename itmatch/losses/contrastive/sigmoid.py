"""Sigmoid loss: each pair is a yes-or-no question of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.ops.checks import check_above_zero, check_finite


def sigmoid_loss(
    scores: Tensor, positives: Tensor | None = None, *, temperature: float | Tensor = 0.1, bias: float | Tensor = -10.0
) -> Tensor:
    r"""Logistic loss of every pair, summed and divided by the number of captions.

    Formula:
        With :math:`z_{it} = 1` for a positive pair and :math:`-1` for any other,

        .. math:: -\frac{1}{T} \sum_{i=1}^{I} \sum_{t=1}^{T} \log \sigma(z_{it} (s_{it} / \tau + b))

        where :math:`\tau` is the temperature and :math:`b` the bias, which offsets that nearly all pairs are negative.
        No pair depends on another, so all of them count, also those of an image or caption without any positive.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - temperature, bias: numbers, or scalar tensors that learn
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Zhai et al., *Sigmoid Loss for Language Image Pre-Training* (SigLIP), ICCV 2023.

    Deviation:
        The paper has as many images as captions and divides by that number; here it is the number of captions.

    Example:
        >>> sigmoid_loss(torch.eye(2), temperature=0.1, bias=-5.0)  # two pairs of each kind, all at distance 5
        tensor(0.0134)
    """
    if not isinstance(temperature, Tensor):
        check_above_zero("temperature", temperature)
    if not isinstance(bias, Tensor):
        check_finite("bias", bias)
    scores, positives = check_scores(scores, positives)
    logits = scores / temperature + bias
    return -logsigmoid(torch.where(positives, logits, -logits)).sum() / scores.shape[1]


class SigmoidLoss(ScoreLoss):
    """Pairwise sigmoid loss with a learned or fixed temperature and bias; see :func:`sigmoid_loss`.

    Args:
        temperature: scores are divided by it; the starting value when it is learned.
        bias: added to the divided scores; the starting value when it is learned.
        learnable: learn both, as the parameters ``log_scale`` = ln(1 / temperature) and ``shift`` = bias.

    Example:
        >>> loss = SigmoidLoss()
        >>> [name for name, _ in loss.named_parameters()]
        ['log_scale', 'shift']
        >>> round(loss(torch.eye(4)).item(), 4)  # a positive stands at 10 * 1 - 10, and ln 2 is lost
        0.6933
    """

    def __init__(self, temperature: float = 0.1, bias: float = -10.0, *, learnable: bool = True) -> None:
        super().__init__()
        check_above_zero("temperature", temperature)
        check_finite("bias", bias)
        self.temperature = temperature
        self.bias = bias
        self.log_scale = nn.Parameter(torch.tensor([-math.log(temperature)])) if learnable else None
        self.shift = nn.Parameter(torch.tensor([float(bias)])) if learnable else None

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        temperature = self.temperature if self.log_scale is None else (-self.log_scale).exp()
        return sigmoid_loss(
            scores, positives, temperature=temperature, bias=self.bias if self.shift is None else self.shift
        )
