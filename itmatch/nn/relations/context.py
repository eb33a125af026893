"""Regions in an order: a recurrent network over them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from itmatch.batch import SceneGraph
from itmatch.hostcopies import on_host
from itmatch.nn.recurrent import recurrent_states
from itmatch.nn.relations.base import Relation
from itmatch.ops.checks import check_choice, check_whole

Order = Literal["given", "raster"]
_BANDS = 4


class ContextualOrder(Relation):
    r"""A bidirectional GRU over the regions of an image, in an order.

    Args:
        embed_dim: size D of the fragments, and of the hidden state of each direction.
        order: ``"given"``: as they stand; ``"raster"``: by the boxes' centres, four bands from top to bottom and from
            left to right in a band.

    Shape:
        As every :class:`Relation`: (N, L, D) -> (N, L, D). ``boxes`` are needed for ``"raster"``.

    Formula:
        .. math:: v_i \leftarrow v_i + W\, (\overrightarrow{h}_i + \overleftarrow{h}_i) / 2

        W starts at 0, so that the module is the identity at the start.

    Source:
        The "contextual order" of ReSG (IEEE Transactions on Cybernetics 54(2), 2024); which order, and the network, are
        our choice.

    Example:
        >>> features, mask = torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
        >>> torch.equal(ContextualOrder(8)(features, mask), features)
        True
    """

    def __init__(self, embed_dim: int, order: Order = "given") -> None:
        super().__init__()
        check_choice("ContextualOrder.order", order, "given", "raster")
        check_whole("ContextualOrder.embed_dim", embed_dim)
        self.embed_dim, self.order = embed_dim, order
        self.rnn = nn.GRU(embed_dim, embed_dim, batch_first=True, bidirectional=True)
        self.output = nn.Linear(embed_dim, embed_dim, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Tensor:
        """Add what the GRU says about each fragment in its order."""
        features, mask = self.prepared(features, mask, self.embed_dim)
        rank = self._rank(mask, boxes)  # (N, L) the position in the order; real ones first
        index = rank.argsort(1)[..., None].expand_as(features)
        lengths = on_host(mask).sum(1)
        self.rnn.flatten_parameters()
        hidden = recurrent_states(self.rnn, features.gather(1, index), lengths)
        ordered = hidden.view(*mask.shape, 2, self.embed_dim).mean(2)  # (N, L, D) in the order
        context = ordered.gather(1, rank[..., None].expand_as(features))
        return self.zero_padding(features + self.output(context), mask)

    def _rank(self, mask: Tensor, boxes: Tensor | None) -> Tensor:
        key = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape).float()
        if self.order == "raster":
            if boxes is None:
                raise ValueError("ContextualOrder: no boxes, expected those of the regions for order='raster'")
            known = boxes.masked_fill(~mask[..., None], 0).float()
            centre = (known[..., :2] + known[..., 2:]) / 2  # (N, L, 2)
            band = (centre[..., 1] * _BANDS).floor().clamp(0, _BANDS - 1)
            key = 2 * band + centre[..., 0]  # x is at most 1.01
        order: Tensor = key.masked_fill(~mask, torch.inf).argsort(dim=1, stable=True)
        return order.argsort(1)
