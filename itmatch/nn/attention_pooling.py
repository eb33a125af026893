"""Pooling of fragments by their attention to their mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.hostcopies import followed, on_host, real_places
from itmatch.nn.linear import xavier_linear
from itmatch.nn.pooling import Pooling
from itmatch.ops.checks import check_dropout, check_whole, check_whole_or_none
from itmatch.ops.masking import at_least_float32, masked_mean, masked_softmax, masked_sum, or_all


class GlobalAttentionPooling(Pooling):
    r"""Global self-attention: a weighted sum of fragments, in which their mean says how much each one counts.

    Args:
        embed_dim: size D of the fragments.
        dropout: probability, on the two embeddings.
        batch_norm: normalise both embeddings over the batch, as published for regions and not for words.
        positions: the published form of this normalisation has statistics per position in the row, not per feature,
            and so needs as many fragments as it was trained with, all of them real; give their number (36) to load
            published weights. None takes any number, and normalises over the real fragments of the batch.

    Shape:
        values (N, L, D) with mask (N, L, 1) and ``dim=1`` -> (N, D), not normalised

    Formula:
        .. math::
            a_l = u^\top (\tanh(W_l x_l) \odot \tanh(W_g \bar x)), \qquad \sum_l \mathrm{softmax}_l(a_l)\, x_l

    Source:
        Diao et al., "Similarity Reasoning and Filtration for Image-Text Matching", AAAI 2021, and its public code
        (``VisualSA``, ``TextSA``), with which the scores agree to 1e-5.

    Example:
        >>> pooling = GlobalAttentionPooling(8)
        >>> pooling(torch.randn(2, 3, 8), torch.ones(2, 3, 1, dtype=torch.bool), dim=1).shape
        torch.Size([2, 8])
    """

    def __init__(
        self, embed_dim: int = 1024, dropout: float = 0.4, *, batch_norm: bool = False, positions: int | None = None
    ) -> None:
        super().__init__()
        check_whole("GlobalAttentionPooling.embed_dim", embed_dim)
        check_dropout("GlobalAttentionPooling.dropout", dropout)
        check_whole_or_none("GlobalAttentionPooling.positions", positions)
        if positions is not None and not batch_norm:
            raise ValueError(f"GlobalAttentionPooling.positions: {positions}; it goes with batch_norm=True")
        self.embed_dim, self.positions = embed_dim, positions
        self.local, self.whole = xavier_linear(embed_dim, embed_dim), xavier_linear(embed_dim, embed_dim)
        self.local_norm = nn.BatchNorm1d(positions or embed_dim) if batch_norm else None
        self.whole_norm = nn.BatchNorm1d(embed_dim) if batch_norm else None
        self.dropout = nn.Dropout(dropout)
        self.common = xavier_linear(embed_dim, 1)

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        if values.ndim != 3 or dim % 3 != 1 or values.shape[2] != self.embed_dim:
            raise ValueError(
                f"GlobalAttentionPooling: values {tuple(values.shape)}, dim={dim}; "
                f"expected (N, L, {self.embed_dim}) and dim=1"
            )
        values, length = at_least_float32(values), values.shape[:2]
        real = followed(lambda mask: mask.expand(*length, 1)[..., 0], or_all(mask, values))  # (N, L)
        dtype = self.local.weight.dtype  # half, where the whole model is
        known = values.masked_fill(~real[..., None], 0)  # NaN in padding would enter the gradient of the weights
        local = self._normalized(self.local(known.to(dtype)), real)
        whole = self.whole(masked_mean(values, real[..., None], 1).to(dtype))  # (N, D)
        whole = whole if self.whole_norm is None else _batch_norm(self.whole_norm, whole)
        met = self.dropout(local.tanh()) * self.dropout(whole.tanh())[:, None]
        weights = masked_softmax(at_least_float32(self.common(met)), real[..., None], 1)  # (N, L, 1)
        return masked_sum(weights * values.masked_fill(~real[..., None], 0), real[..., None], 1)

    def _normalized(self, local: Tensor, real: Tensor) -> Tensor:
        if self.local_norm is None:
            return local
        if self.positions is None and not self.local_norm.training:  # statistics are constants: rows do not meet
            found: Tensor = self.local_norm(local.flatten(0, 1)).view(local.shape)
            return found.masked_fill(~real[..., None], 0)
        if self.positions is None:
            places, flat = real_places(real), local.flatten(0, 1)
            found = _batch_norm(self.local_norm, flat.index_select(0, places))
            return torch.zeros_like(flat).index_copy(0, places, found.to(flat.dtype)).view(local.shape)
        if real.shape[1] != self.positions or (not torch.compiler.is_compiling() and not bool(on_host(real).all())):
            raise ValueError(
                f"GlobalAttentionPooling: {int(real.sum(1).min())} to {int(real.sum(1).max())} fragments, expected "
                f"{self.positions} everywhere; positions=None takes any number"
            )
        normalized: Tensor = self.local_norm(local)
        return normalized


def _batch_norm(norm: nn.BatchNorm1d, values: Tensor) -> Tensor:
    """Batch normalisation; of a single row, as the last batch of an epoch may be, by the running statistics."""
    if norm.training and len(values) <= 1:
        constants = norm.running_mean, norm.running_var, norm.weight, norm.bias
        return nn.functional.batch_norm(values, *constants, training=False, eps=norm.eps)
    normalized: Tensor = norm(values)
    return normalized
