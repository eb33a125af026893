"""From fragments of any number to a set of K vectors, by slots that compete for the fragments."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from itmatch.nn.block import Block
from itmatch.ops.checks import check_choice, check_whole, check_whole_or_none
from itmatch.ops.masking import at_least_float32, l2_normalize, mask_to_lengths, or_all

Positions = Literal["caption", "batch"]

_EPSILON = 1e-7  # of the share of a slot in all fragments
_SMALL = 1e-6  # of the length that positions are divided by


class SlotPooling(Block):
    r"""DivE: K learned slots compete for the fragments of a row; each gives one vector of the row's set.

    The softmax of the attention runs over the slots, so that a fragment belongs to one of them, mostly. What a slot has
    gathered is added to a vector of the whole row.

    Args:
        embed_dim: size D of the slots, and of the vectors.
        num_slots: K.
        context_dim: size C of the fragments; None = ``embed_dim``.
        depth: layers.
        num_heads: heads of the attention.
        head_dim: width of a head; the public code has 512 whatever D.
        ff_mult: width of the feed-forward layers, as a multiple of D.
        tied: all layers have the same weights.
        post_norm: normalise after each layer too, and not at the end.
        activation: of the feed-forward layers.
        positions: add positions to the keys, as published for words: ``"caption"``: over the length of the row;
            ``"batch"``: over that of the longest row of the batch, as the public code has it. None: no positions.
        mask_attention: padded fragments receive no attention. False reproduces the public code, in which a padded
            fragment belongs to all slots alike, and is read.

    Shape:
        features (N, L, C), mask (N, L), whole (N, D) -> (N, K, D), of length 1

    Formula:
        For each layer, with the slots :math:`h_k` and fragments :math:`c_j`, in each head

        .. math::
            A_{kj} = \mathrm{softmax}_k \frac{q_k \cdot (\mathrm{LN}(c_j) + pos_j) W_K}{\sqrt{d}}, \quad
            h_k \leftarrow h_k + W_O \frac{\sum_j A_{kj} W_V \mathrm{LN}(c_j)}{\sum_j A_{kj}}, \quad
            h_k \leftarrow h_k + \mathrm{FF}(\mathrm{LN}(h_k))

        with :math:`q = W_Q \mathrm{LN}(h)`; the vectors are :math:`\mathrm{LN}(whole) + \mathrm{LN}(h_k)`, of length 1.

    Source:
        Kim, Kim and Kwak, "Improving Cross-Modal Retrieval with Set of Diverse Embeddings", CVPR 2023 (DivE), and its
        public code, with which values and gradients agree to 1e-5.

    Deviation:
        In the public code the mask of the attention has no effect, since it is the same for all slots, and positions
        are scaled by the longest row of the batch: ``mask_attention=False, positions="batch"``.

    Example:
        >>> slots = SlotPooling(8, num_slots=3, head_dim=4)
        >>> slots(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool), torch.randn(2, 8)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        embed_dim: int = 1024,
        num_slots: int = 4,
        context_dim: int | None = None,
        *,
        depth: int = 4,
        num_heads: int = 4,
        head_dim: int = 512,
        ff_mult: int = 4,
        tied: bool = True,
        post_norm: bool = False,
        activation: Literal["gelu", "relu"] = "gelu",
        positions: Positions | None = None,
        mask_attention: bool = True,
    ) -> None:
        super().__init__()
        for name, value in {"depth": depth, "ff_mult": ff_mult, "num_heads": num_heads, "head_dim": head_dim}.items():
            check_whole(name, value)
        self.embed_dim, self.num_slots = check_whole("embed_dim", embed_dim), check_whole("num_slots", num_slots)
        self.context_dim = check_whole_or_none("context_dim", context_dim) or embed_dim
        self.depth, self.tied, self.post_norm, self.mask_attention = depth, tied, post_norm, mask_attention
        self.positions = check_choice("positions", positions, None, "caption", "batch")
        check_choice("activation", activation, "gelu", "relu")
        self.latents = nn.Parameter(torch.randn(num_slots, embed_dim) / math.sqrt(embed_dim))
        sizes = embed_dim, self.context_dim, num_heads, head_dim, ff_mult
        self.layers = nn.ModuleList(_Layer(*sizes, activation) for _ in range(1 if tied else depth))
        norms = 2 * depth if post_norm else 0
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(norms))
        self.last = None if post_norm else nn.LayerNorm(embed_dim)
        self.whole = nn.LayerNorm(embed_dim)

    def forward(self, features: Tensor, mask: Tensor | None, whole: Tensor) -> Tensor:
        """The vectors of each row."""
        slots = self.slots(features, mask)
        return l2_normalize(at_least_float32(self.whole(whole.to(slots.dtype)))[:, None] + at_least_float32(slots))

    def slots(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """(N, K, D) what the slots have gathered, before the vector of the whole is added: for regularisers."""
        if features.shape[2] != self.context_dim:
            raise ValueError(f"SlotPooling: fragments of size {features.shape[2]}, expected {self.context_dim}")
        mask = or_all(mask, features).expand(features.shape[:2])  # (N, L)
        features = features.to(self.latents.dtype)
        if self.mask_attention:
            features = features.masked_fill(~mask[..., None], 0)
        positions = self._positions(mask).to(features.dtype) if self.positions else None
        slots = self.latents.expand(features.shape[0], -1, -1)
        for place in range(self.depth):
            layer = self.layers[0 if self.tied else place]
            assert isinstance(layer, _Layer)
            slots = slots + layer.attend(slots, features, mask, positions, masked=self.mask_attention)
            slots = self.norms[2 * place](slots) if self.post_norm else slots
            slots = slots + layer.feed(slots)
            slots = self.norms[2 * place + 1](slots) if self.post_norm else slots
        return slots if self.last is None else self.last(slots)

    def _positions(self, mask: Tensor) -> Tensor:
        """(N, L, C)."""
        counted = mask if self.positions == "caption" else torch.ones_like(mask)
        angle = counted.cumsum(1) / (mask_to_lengths(counted)[:, None] + _SMALL) * 2 * math.pi
        even = torch.arange(self.context_dim, device=mask.device) // 2 * 2
        angle = angle[..., None] / 10000 ** (even.float() / self.context_dim)
        return torch.where(even == torch.arange(self.context_dim, device=mask.device), angle.sin(), angle.cos())


class _Layer(nn.Module):
    """Attention of slots to fragments, and a feed-forward network; each is added to the slots by the caller."""

    def __init__(
        self, dim: int, context_dim: int, num_heads: int, head_dim: int, ff_mult: int, activation: str
    ) -> None:
        super().__init__()
        self.num_heads, inner = num_heads, num_heads * head_dim
        self.norm, self.norm_context, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(context_dim), nn.LayerNorm(dim)
        self.query = nn.Linear(dim, inner, bias=False)
        self.key = nn.Linear(context_dim, inner, bias=False)
        self.value = nn.Linear(context_dim, inner, bias=False)
        self.out = nn.Linear(inner, dim)
        hidden = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.network = nn.Sequential(nn.Linear(dim, ff_mult * dim), hidden, nn.Linear(ff_mult * dim, dim))

    def attend(self, slots: Tensor, context: Tensor, mask: Tensor, positions: Tensor | None, *, masked: bool) -> Tensor:
        """(N, K, D) what the slots read."""
        known = self.norm_context(context)
        shares = self.shares(slots, known if positions is None else known + positions, mask, masked=masked)
        value = self._heads(self.value(known))
        weights = (shares / (shares.sum(3, keepdim=True) + _EPSILON)).to(value.dtype)
        found: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return found

    def shares(self, slots: Tensor, known: Tensor, mask: Tensor, *, masked: bool) -> Tensor:
        """(N, h, K, L) the shares of the slots in each fragment, by the normalised fragments with their positions."""
        query, keys = self._heads(self.query(self.norm(slots))), self._heads(self.key(known))  # (N, h, L, d)
        shares = (at_least_float32(query @ keys.mT) / math.sqrt(query.shape[3])).softmax(2)
        return shares.masked_fill(~mask[:, None, None], 0 if masked else 1 / slots.shape[1])

    def feed(self, slots: Tensor) -> Tensor:
        """(N, K, D) of the feed-forward network."""
        found: Tensor = self.network(self.norm_feed(slots))
        return found

    def _heads(self, values: Tensor) -> Tensor:
        shape = *values.shape[:2], self.num_heads, values.shape[2] // self.num_heads
        return values.view(shape).transpose(1, 2)
