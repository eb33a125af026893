"""Poolings: from many values to one, alignment scores to a score or fragments to a vector."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from itmatch.hostcopies import followed, on_host, sent
from itmatch.nn.block import Block
from itmatch.nn.recurrent import recurrent_states
from itmatch.ops.checks import check_above_zero, check_kind, check_whole
from itmatch.ops.masking import (
    at_least_float32,
    mask_to_lengths,
    masked_logsumexp,
    masked_max,
    masked_mean,
    masked_softmax,
    masked_sum,
    or_all,
)


class Pooling(Block):
    """Base class: reduces one dimension of a tensor, reading real values alone.

    To write your own, subclass this and implement :meth:`forward`.

    Shape:
        - values: any, for instance alignment scores (I, T, L), or features (N, L, D) with ``dim=1``
        - mask: bool, broadcastable to the values, for instance (1, T, L), (I, 1, L) or (N, L, 1), True = real; None
          where all are real
        - output: the values without ``dim``, in float32, or float64 if the values are; 0 where nothing is real
    """

    @abstractmethod
    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""


class MeanPooling(Pooling):
    """Mean of the real values.

    Example:
        >>> MeanPooling()(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(2.)
    """

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        return masked_mean(at_least_float32(values), mask, dim)


class SumPooling(Pooling):
    """Sum of the real values.

    Example:
        >>> SumPooling()(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(4.)
    """

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        return masked_sum(at_least_float32(values), mask, dim)


class MaxPooling(Pooling):
    """Largest of the real values.

    Example:
        >>> MaxPooling()(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(3.)
    """

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        return masked_max(at_least_float32(values), mask, dim)


class TopKPooling(Pooling):
    """Mean of the k largest of the real values, of all of them where there are fewer.

    Args:
        k: how many; 1 is the maximum.
        sticky_k: as in the public code of HREM: where a row has fewer than k values, all rows of the batch behind it
            have to do with as few, so that a vector depends on its neighbours.

    Source:
        The pooling of the encoders of HREM (CVPR 2023), with two.

    Example:
        >>> TopKPooling()(torch.tensor([1.0, 3.0, 2.0, 9.0]), torch.tensor([True, True, True, False]))
        tensor(2.5000)
    """

    def __init__(self, k: int = 2, *, sticky_k: bool = False) -> None:
        super().__init__()
        self.k, self.sticky_k = check_whole("k", k), sticky_k

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        values = at_least_float32(values)
        mask = or_all(mask, values).expand(values.shape).movedim(dim, -1)  # (..., L)
        values = values.movedim(dim, -1).masked_fill(~mask, -torch.inf)  # padding comes last
        largest = values.topk(min(self.k, values.shape[-1]), dim=-1).values  # (..., k)
        count = mask.sum(-1).clamp(max=self.k)
        if self.sticky_k and count.ndim:
            count = count.clamp(min=1).cummin(0).values
        return masked_mean(largest, torch.arange(largest.shape[-1], device=mask.device) < count[..., None], -1)


class LastPooling(Pooling):
    """The last of the real values: of the words of a GRU, its state at the end of the caption.

    Example:
        >>> LastPooling()(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(3.)
    """

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        mask = or_all(mask, values).expand(values.shape).movedim(dim, -1)  # (..., L)
        last = (mask * torch.arange(1, mask.shape[-1] + 1, device=mask.device)).amax(-1, keepdim=True) - 1
        found = at_least_float32(values).movedim(dim, -1).gather(-1, last.clamp(min=0)).squeeze(-1)
        return found.masked_fill(last.squeeze(-1) < 0, 0)


class SoftmaxPooling(Pooling):
    """Mean of the real values, weighted by their own softmax.

    Args:
        temperature: of the softmax; towards 0 the result is the maximum, towards infinity the mean.

    Formula:
        ``sum_l softmax(a / temperature)_l a_l``

    Example:
        >>> SoftmaxPooling(0.1)(torch.tensor([0.0, 1.0, 9.0]), torch.tensor([True, True, False]))
        tensor(1.0000)
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = check_above_zero("temperature", temperature)

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        values, mask = at_least_float32(values), or_all(mask, values)
        weights = masked_softmax(values / self.temperature, mask, dim)
        return masked_sum(weights * values.masked_fill(~mask, 0), mask, dim)


class LogSumExpPooling(Pooling):
    """A smooth maximum: logarithm of the sum of exponentials.

    The public code of CHAN leaves out the leading temperature of its paper. Its scores, and every margin that is
    compared with them, are then ``1 / temperature`` times as large: with 0.1, margin 0.05 at ``scaled=False`` is the
    same as 0.005 at ``scaled=True``.

    Args:
        temperature: towards 0 the result is the maximum; 1 over the lambda of the paper.
        scaled: multiply by the temperature, as in the paper; False reproduces the public code.
        length_normalized: logarithm of the *mean* of the exponentials; otherwise the result grows with the logarithm
            of the number of values, so that long captions score higher.

    Formula:
        ``temperature * log sum_l exp(a_l / temperature)``

    Source:
        Pan, Wu and Zhang, "Fine-Grained Image-Text Matching by Cross-Modal Hard Aligning Network", CVPR 2023.

    Example:
        >>> values, mask = torch.tensor([0.5, 0.5, 9.0]), torch.tensor([True, True, False])
        >>> LogSumExpPooling(0.1)(values, mask)  # 0.5 + 0.1 log 2
        tensor(0.5693)
        >>> LogSumExpPooling(0.1, length_normalized=True)(values, mask)
        tensor(0.5000)
    """

    def __init__(self, temperature: float = 0.1, *, scaled: bool = True, length_normalized: bool = False) -> None:
        super().__init__()
        self.temperature = check_above_zero("temperature", temperature)
        self.scaled = scaled
        self.length_normalized = length_normalized

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        mask = or_all(mask, values)
        result = masked_logsumexp(at_least_float32(values) / self.temperature, mask, dim)
        if self.length_normalized:
            result = result - mask.expand(values.shape).sum(dim).clamp(min=1).to(result.dtype).log()
        return result * self.temperature if self.scaled else result


class GeneralizedPooling(Pooling):
    """Generalized pooling operator (GPO): learned weights for the largest, second largest, ... value.

    A small bidirectional GRU reads positional encodings and gives a weight to each rank; mean, max and everything
    between are special cases. The weights depend on the number of real values and on nothing else.

    Args:
        position_dim: size of the positional encodings, even.
        hidden_dim: size of the GRU.
        temperature: of the softmax over the ranks.

    Formula:
        ``sum_k softmax_k(u . h_k / temperature) x_(k)`` with ``x_(1) >= x_(2) >= ...`` the sorted real values and
        ``h`` the mean of the two directions of the GRU.

    Source:
        Chen et al., "Learning the Best Pooling Strategy for Visual Semantic Embedding", CVPR 2021, and its public
        code, whose ``gru.*`` and ``linear.*`` parameters load as they are.

    Example:
        >>> pooling = GeneralizedPooling()
        >>> mask = torch.tensor([[True, True, False], [True, False, False]])
        >>> pooling(torch.randn(2, 3, 8), mask[..., None], dim=1).shape
        torch.Size([2, 8])
    """

    def __init__(self, position_dim: int = 32, hidden_dim: int = 32, temperature: float = 0.1) -> None:
        super().__init__()
        if check_whole("position_dim", position_dim) % 2:
            raise ValueError(f"position_dim: {position_dim}, expected an even number above 0")
        check_whole("hidden_dim", hidden_dim)
        self.position_dim = position_dim
        self.temperature = check_above_zero("temperature", temperature)
        self.gru = nn.GRU(position_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(hidden_dim, 1, bias=False)

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        mask = values.new_ones(values.shape[dim], dtype=torch.bool) if mask is None else mask
        mask = followed(lambda mask: mask.movedim(dim, -1), mask) if mask.ndim == values.ndim else mask
        weights = self.rank_weights(mask)  # (..., L)
        values = at_least_float32(values).movedim(dim, -1).masked_fill(~mask, -torch.inf)  # padding comes last
        ranked = values.sort(-1, descending=True).values
        return masked_sum(ranked.masked_fill(ranked == -torch.inf, 0) * weights, weights > -1, -1).to(values.dtype)

    def rank_weights(self, mask: Tensor) -> Tensor:
        """Weights (..., L) of the ranks for masks (..., L); they sum to 1 where anything is real."""
        counts = mask_to_lengths(on_host(mask))
        present = torch.bincount(counts.reshape(-1)) > 0
        lengths, row = present.nonzero().squeeze(1), (present.cumsum(0) - 1)[counts]  # one row per distinct length
        real = sent(torch.arange(mask.shape[-1]) < lengths[:, None], mask.device)  # (U, L)
        row = sent(row, mask.device)
        positions = sent(self._positions(mask.shape[-1]), mask.device).to(self.linear.weight.dtype)
        states = recurrent_states(self.gru, positions.expand(len(lengths), -1, -1), lengths.clamp(min=1))
        scores = self.linear(sum(states.chunk(2, -1)) / 2).squeeze(-1)  # (U, L)
        return masked_softmax(at_least_float32(scores) / self.temperature, real, -1)[row]

    def _positions(self, length: int) -> Tensor:
        rate = torch.exp(torch.arange(0, self.position_dim, 2) * (-math.log(10000.0) / self.position_dim))
        angle = torch.arange(length)[:, None] * rate
        return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)  # (L, position_dim), sine and cosine in turn


class LayerNormPooling(Pooling):
    """A pooling of features whose vectors go through a LayerNorm, as AVSE has it for captions.

    Args:
        pooling: from the features to a vector of size ``embed_dim``.
        embed_dim: size of the vectors.

    Source:
        Liu et al., "Asymmetric Visual Semantic Embedding Framework for Efficient Vision-Language Alignment", AAAI 2025,
        and its public code.

    Example:
        >>> LayerNormPooling(MeanPooling(), 8)(torch.randn(2, 3, 8), dim=1).shape
        torch.Size([2, 8])
    """

    def __init__(self, pooling: Pooling, embed_dim: int = 1024) -> None:
        super().__init__()
        self.pooling, self.embed_dim = check_kind("pooling", pooling, Pooling), check_whole("embed_dim", embed_dim)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        pooled = self.pooling(values, mask, dim)
        result: Tensor = self.norm(pooled.to(self.norm.weight.dtype))
        return at_least_float32(result)
