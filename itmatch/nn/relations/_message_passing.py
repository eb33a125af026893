"""The one place that runs on ``torch_geometric``. Its import takes seconds: import this module where it is needed."""

from __future__ import annotations

from functools import cache

from torch import Tensor
from torch_geometric.nn import MessagePassing


class ScaledSum(MessagePassing):  # type: ignore[misc]
    """Sum over the incoming edges of the source's values, scaled per edge and head."""

    def __init__(self) -> None:
        super().__init__(aggr="sum")

    def forward(self, values: Tensor, edge_index: Tensor, share: Tensor) -> Tensor:
        """Values (K, D) of the nodes and shares (E, H) or (E, 1) -> (K, D); a head is D / H of the values."""
        summed: Tensor = self.propagate(edge_index, x=values, share=share)  # torch_geometric reads this very call
        return summed

    def message(self, x_j: Tensor, share: Tensor) -> Tensor:
        """(E, D)."""
        heads = x_j.view(*share.shape, x_j.shape[1] // share.shape[1])  # (E, H, D / H)
        return (heads * share[..., None]).view(x_j.shape)


@cache
def scaled_sum() -> ScaledSum:
    """The one instance; it has no parameters, and models that use it must not have to copy or store it."""
    return ScaledSum()
