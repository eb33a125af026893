"""Lengths, masks, and reductions that never read a padded place.

All functions take ``values`` and a boolean ``mask`` that broadcasts to it, True where something real stands; None says
that all is real. Padded values are replaced before anything is computed, so that even NaN there changes neither a
result nor a gradient. A slice without any real value gives 0 (:func:`masked_softmax`: a row of zeros) and a zero
gradient.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from itmatch.ops.checks import check_not_negative

LOG2_E = 1 / log(2)  # powers of 2 are faster than those of e


def lengths_to_mask(lengths: Tensor, max_length: int | None = None) -> Tensor:
    """Mask whose row ``n`` is True in its first ``lengths[n]`` places.

    Args:
        lengths: (N,) integers, not negative.
        max_length: number of columns; by default the largest length.

    Returns:
        (N, L) bool.

    Example:
        >>> lengths_to_mask(torch.tensor([1, 3])).int().tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    if lengths.ndim != 1 or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths: {tuple(lengths.shape)} {lengths.dtype}, expected one dimension of integers")
    if max_length is None:
        max_length = int(lengths.max()) if lengths.numel() else 0
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]  # (N, L)


def mask_to_lengths(mask: Tensor) -> Tensor:
    """Number of real places in each row of a mask (..., L), as int64 (...).

    Example:
        >>> mask_to_lengths(torch.tensor([[True, False], [True, True]])).tolist()
        [1, 2]
    """
    return mask.sum(-1)


def masked_sum(values: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Sum of the real values along ``dim``.

    Example:
        >>> masked_sum(torch.tensor([1.0, 2.0, 7.0]), torch.tensor([True, True, False]), dim=0)
        tensor(3.)
    """
    return (values if mask is None else torch.where(or_all(mask, values), values, 0)).sum(dim)


def masked_mean(values: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Mean of the real values along ``dim``.

    Example:
        >>> masked_mean(torch.tensor([1.0, 2.0, 7.0]), torch.tensor([True, True, False]), dim=0)
        tensor(1.5000)
    """
    if mask is None and values.shape[dim]:
        return values.mean(dim)
    mask = or_all(mask, values)
    count = _expand(mask, values).sum(dim).clamp(min=1)
    return masked_sum(values, mask, dim) / count


def masked_max(values: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Largest of the real values along ``dim``; among equal ones a single one receives the gradient.

    Example:
        >>> masked_max(torch.tensor([1.0, 2.0, 7.0]), torch.tensor([True, True, False]), dim=0)
        tensor(2.)
    """
    mask = or_all(mask, values)
    largest = torch.where(mask, values, -torch.inf).max(dim).values
    return largest.masked_fill(~_expand(mask, values).any(dim), 0)


def masked_softmax(values: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Softmax over the real values along ``dim``; padded places get weight 0. Computed in at least float32.

    Example:
        >>> masked_softmax(torch.tensor([1.0, 1.0, 7.0]), torch.tensor([True, True, False]), dim=0)
        tensor([0.5000, 0.5000, 0.0000])
    """
    mask = or_all(mask, values)
    lowest = torch.finfo(_statistics_dtype(values)).min  # finite, so that a slice without real values makes no NaN
    weights = values.to(_statistics_dtype(values)).masked_fill(~mask, lowest).softmax(dim)
    return weights.masked_fill(~mask, 0).to(values.dtype)


def masked_logsumexp(values: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Log of the sum of exponentials of the real values along ``dim``. Computed in at least float32.

    Example:
        >>> masked_logsumexp(torch.tensor([0.0, 0.0, 7.0]), torch.tensor([True, True, False]), dim=0)
        tensor(0.6931)
    """
    if values.shape[dim] == 0:
        return values.sum(dim)
    mask = or_all(mask, values)
    limits = torch.finfo(_statistics_dtype(values))
    real = torch.where(mask, values.to(_statistics_dtype(values)), limits.min)
    top = real.detach().amax(dim, keepdim=True).clamp(limits.min, limits.max)
    # powers of 2: on a CPU the exponential of a very small number, as of padding, takes eight times as long
    total = (real - top).mul_(LOG2_E).exp2_().sum(dim)
    return torch.where(_expand(mask, values).any(dim), total.log() + top.squeeze(dim), 0).to(values.dtype)


def l2_normalize(x: Tensor, dim: int = -1, eps: float = 1e-8) -> Tensor:
    """Vectors of length 1 along ``dim``; vectors shorter than ``eps`` are divided by ``eps``.

    A zero vector stays zero, and its gradient is zero too. ``eps`` is at least the smallest normal number of the type
    of ``x``, so that a gradient is finite in float16 as well.

    Example:
        >>> l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    wide = x.to(_statistics_dtype(x))
    square = wide.square().sum(dim, keepdim=True)
    eps = max(check_not_negative("eps", eps), torch.finfo(x.dtype).tiny)
    scale = square.clamp(min=eps * eps).rsqrt()  # clamped before the root, whose gradient at 0 is infinite
    return (wide * scale.masked_fill(square == 0, 0)).to(x.dtype)


def _expand(mask: Tensor, values: Tensor) -> Tensor:
    return mask.expand(values.shape)


def or_all(mask: Tensor | None, values: Tensor) -> Tensor:
    """The mask; where there is none, one that broadcasts to the values and says that all are real.

    Raises:
        TypeError: it is no mask of booleans.
    """
    if mask is None:
        return values.new_ones((), dtype=torch.bool)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: {mask.dtype}, expected torch.bool, True where something is real")
    return mask


def _statistics_dtype(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are. The gradient has the type of ``values``."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
