"""Pooling of fragments to a Gaussian: where an image or a caption lies, and how unsure that is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.nn.linear import xavier_linear
from itmatch.nn.pooling import GeneralizedPooling, Pooling
from itmatch.ops.checks import check_finite, check_kind, check_whole
from itmatch.ops.masking import at_least_float32, or_all


class GaussianPooling(Pooling):
    r"""Two poolings of the same fragments: one gives a mean, one, behind a linear layer, the logarithm of a variance.

    For :class:`itmatch.losses.ProbabilisticMatchingLoss` and :class:`GaussianSimilarity`, in encoders with
    ``normalize=False``: nothing may scale the logarithm. Both of those divide the means by their length.

    Args:
        embed_dim: size D of the fragments.
        mean: the pooling of the means; by default :class:`GeneralizedPooling`.
        spread: that of the variances; by default another :class:`GeneralizedPooling`.
        log_variance: where the logarithm starts, on average. Variances of 1 in D dimensions would put all pairs 2 D
            apart, however near their means are.

    Shape:
        values (N, L, D) with mask (N, L, 1) and ``dim=1`` -> (N, 2 D): mean, then logarithm of the variance

    Formula:
        .. math:: \mu = \mathrm{pool}_l(x_l), \qquad \log \sigma^2 = \mathrm{pool}'_l(W x_l + b)

    Source:
        After the heads of PCME++ (Chun, ICLR 2024), in which the variance has a branch of its own beside the mean.

    Deviation:
        There the branches part earlier: each has an embedding of its own below its pooling. The value at which the
        logarithm starts is ours.

    Example:
        >>> pooling = GaussianPooling(8)
        >>> pooling(torch.randn(2, 3, 8), torch.ones(2, 3, 1, dtype=torch.bool), dim=1).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        embed_dim: int = 1024,
        mean: Pooling | None = None,
        spread: Pooling | None = None,
        log_variance: float = -7.0,
    ) -> None:
        super().__init__()
        self.embed_dim = check_whole("embed_dim", embed_dim)
        self.mean = GeneralizedPooling() if mean is None else check_kind("mean", mean, Pooling)
        self.spread = GeneralizedPooling() if spread is None else check_kind("spread", spread, Pooling)
        self.fc = xavier_linear(embed_dim, embed_dim)
        nn.init.constant_(self.fc.bias, check_finite("log_variance", log_variance))

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        if values.ndim != 3 or dim % 3 != 1 or values.shape[2] != self.embed_dim:
            raise ValueError(
                f"GaussianPooling: values {tuple(values.shape)}, dim={dim}; expected (N, L, {self.embed_dim}) and dim=1"
            )
        real = or_all(mask, values).expand(*values.shape[:2], 1)  # (N, L, 1)
        known = values.masked_fill(~real, 0)
        logs = at_least_float32(self.fc(known.to(self.fc.weight.dtype)))
        return torch.cat((self.mean(known, real, dim=1), self.spread(logs, real, dim=1)), 1)
