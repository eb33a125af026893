"""Which of many losses are small: a mixture of two normal distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def clean_probability(
    losses: Tensor, *, max_steps: int = 10, tolerance: float = 1e-2, variance_floor: float = 5e-4
) -> Tensor:
    r"""How likely each loss comes from the lower of two normal distributions that are fitted to all of them.

    Networks learn right pairs before wrong ones, so in the first epochs the losses of wrong pairs stand apart.

    Formula:
        The losses are scaled to [0, 1]. Two groups of least squared distance to their means start the steps of
        expectation and maximisation for shares :math:`\pi_k`, means :math:`\mu_k` and variances :math:`\sigma_k^2`,
        to which ``variance_floor`` is added. They end when the mean log-likelihood changes by less than ``tolerance``,
        or after ``max_steps``. The result is
        :math:`\pi_0 \mathcal N_0(x) / \sum_k \pi_k \mathcal N_k(x)` of the component with the lower mean.

    Shape:
        - losses: (N,) finite
        - result: (N,) float32 in [0, 1]; 1 where all losses are equal

    Source:
        Huang et al., *Learning with Noisy Correspondence for Cross-modal Matching*, NeurIPS 2021 (NCR), with the
        numbers of its code, which takes the mixture of scikit-learn.

    Raises:
        ValueError: another shape, or a loss that is NaN or infinite.

    Example:
        >>> clean_probability(torch.tensor([0.1, 0.2, 0.15, 3.0, 3.1])).round().tolist()
        [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    if losses.ndim != 1 or not bool(losses.isfinite().all()):
        raise ValueError(f"losses: shape {tuple(losses.shape)}, expected one dimension of finite numbers")
    if not len(losses) or bool(losses.max() == losses.min()):
        return torch.ones(len(losses), device=losses.device)
    wide = losses.detach().double()
    scaled = (wide - wide.min()) / (wide.max() - wide.min())  # (N,)
    shares = _two_groups(scaled)  # (N, 2)
    before = -math.inf
    for _ in range(max_steps):
        components = _fitted(scaled, shares, variance_floor)
        log_parts = _log_parts(scaled, *components)
        total = log_parts.logsumexp(1)
        shares, level = (log_parts - total[:, None]).exp(), total.mean().item()
        if abs(level - before) < tolerance:
            break
        before = level
    components = _fitted(scaled, shares, variance_floor)
    lower = int(components[1].argmin())
    return _log_parts(scaled, *components).softmax(1)[:, lower].float()


def _two_groups(values: Tensor) -> Tensor:
    """The best cut of the sorted values into two groups, as shares (N, 2) of 0 and 1."""
    ordered, order = values.sort()
    count = torch.arange(1, len(values), device=values.device)  # values in the lower group
    below = ordered.cumsum(0)[:-1]
    between = below.square() / count + (ordered.sum() - below).square() / (len(values) - count)
    cut = int(between.argmax()) + 1
    shares = values.new_zeros(len(values), 2)
    shares[order[:cut], 0] = shares[order[cut:], 1] = 1
    return shares


def _fitted(values: Tensor, shares: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and variances (2,) of the components that have these shares of the values."""
    mass = shares.sum(0) + 10 * torch.finfo(shares.dtype).eps
    means = (shares * values[:, None]).sum(0) / mass
    variances = (shares * (values[:, None] - means).square()).sum(0) / mass + floor
    return mass / mass.sum(), means, variances


def _log_parts(values: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Log of weight times density, (N, 2)."""
    distance = (values[:, None] - means).square() / variances
    return weights.log() - (distance + variances.log() + math.log(2 * math.pi)) / 2
