"""Pooling of fragments that have looked at each other."""

from __future__ import annotations

from torch import Tensor, nn

from itmatch.nn.pooling import Pooling, TopKPooling
from itmatch.nn.relations.base import check_heads
from itmatch.ops.checks import check_dropout, check_kind, check_share
from itmatch.ops.masking import at_least_float32, masked_mean, or_all


class TransformerPooling(Pooling):
    r"""A plain pooling, mixed with the mean of what one Transformer layer makes of the fragments.

    Args:
        embed_dim: size D of the fragments, and the width of the layer's perceptron.
        num_heads: heads of the attention; they divide ``embed_dim``.
        weight: share of the plain pooling; the rest is that of the layer.
        pooling: the plain one; by default the mean of the two largest, :class:`~itmatch.nn.TopKPooling`.
        dropout: probability, within the layer.

    Shape:
        values (N, L, D) with mask (N, L, 1) and ``dim=1`` -> (N, D), not normalised

    Formula:
        .. math::
            h = \mathrm{LN}(x + \mathrm{MHA}(x)), \qquad y = \mathrm{LN}(h + W_2 \mathrm{ReLU}(W_1 h)), \qquad
            w\, \mathrm{pool}_l(x_l) + (1 - w)\, \mathrm{mean}_l(y_l)

    Source:
        Fu et al., "Learning Semantic Relationship Among Instances for Image-Text Matching", CVPR 2023 (HREM), and its
        public code, with whose vectors of both sides it agrees to 1e-5. ``layer`` stands there as
        ``aggr.layers.0``.

    Example:
        >>> import torch
        >>> pooling = TransformerPooling(8, num_heads=2)
        >>> pooling(torch.randn(2, 3, 8), torch.ones(2, 3, 1, dtype=torch.bool), dim=1).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        embed_dim: int = 1024,
        num_heads: int = 16,
        weight: float = 0.8,
        pooling: Pooling | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_heads("TransformerPooling", embed_dim, num_heads)
        check_dropout("TransformerPooling.dropout", dropout)
        self.embed_dim, self.weight = embed_dim, check_share("TransformerPooling.weight", weight)
        self.pooling = TopKPooling() if pooling is None else check_kind("pooling", pooling, Pooling)
        self.layer = nn.TransformerEncoderLayer(embed_dim, num_heads, embed_dim, dropout, batch_first=True)

    def forward(self, values: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
        """Reduce ``dim``."""
        if values.ndim != 3 or dim % 3 != 1 or values.shape[2] != self.embed_dim:
            raise ValueError(
                f"TransformerPooling: values {tuple(values.shape)}, dim={dim}; "
                f"expected (N, L, {self.embed_dim}) and dim=1"
            )
        values = at_least_float32(values)
        real = or_all(mask, values).expand(*values.shape[:2], 1)  # (N, L, 1)
        plain = self.pooling(values, real, dim=1)  # (N, D)
        known = values.masked_fill(~real, 0).to(self.layer.linear1.weight.dtype)  # NaN in padding would enter weights
        ignored = ~real[..., 0] & real.any(1)  # (N, L); where nothing is real, all are looked at and none is read
        related = masked_mean(at_least_float32(self.layer(known, src_key_padding_mask=ignored)), real, 1)
        mixed: Tensor = self.weight * plain + (1 - self.weight) * related
        return mixed
