"""The layers of graph convolutions over regions.

Importing this module imports ``torch_geometric``, which takes seconds: it is imported where a layer is built.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from itmatch.nn.relations._geometry import GeometryPerceptron
from itmatch.ops.graphs import Edges


class TypeFactors(nn.Module):
    """A learned factor for each type of edge and each head: types (...) -> (..., H)."""

    def __init__(self, num_types: int, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(1 + torch.randn(num_types, num_heads))  # types differ from the start

    def forward(self, types: Tensor) -> Tensor:
        """Look the types up."""
        return F.embedding(types, self.table)


class GeometryFactors(nn.Module):
    """Factors per head from how the two boxes of an edge lie to each other: geometry (..., 8) -> (..., H)."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.perceptron = GeometryPerceptron(num_heads)
        hidden, output = self.perceptron.hidden, self.perceptron.output
        # larger weights than torch's own: left and right then differ from the start
        nn.init.kaiming_normal_(hidden.weight)
        nn.init.normal_(output.weight, std=(2 / hidden.out_features) ** 0.5)

    def forward(self, geometry: Tensor) -> Tensor:
        """1 plus what the geometry says."""
        factors: Tensor = 1 + self.perceptron(geometry)
        return factors


class GraphConvolution(MessagePassing):  # type: ignore[misc]
    """One round of messages; what it adds to a node is 0 at the start, and stays 0 where no edge ends.

    Along a list of edges it is a ``torch_geometric.nn.MessagePassing``; over matrices the same sums are products.

    Args:
        embed_dim: size D of the fragments.
        num_heads: factors of an edge; each scales its share D / H of a message.
        factors: makes the factors (..., H) from the attributes of the edges; None = all are 1.
    """

    def __init__(self, embed_dim: int, num_heads: int, factors: nn.Module | None) -> None:
        super().__init__(aggr="sum")
        self.num_heads = num_heads
        self.value = nn.Linear(embed_dim, embed_dim, bias=False)
        self.factors = nn.ModuleList([] if factors is None else [factors])  # a list, as in the weights of older models
        self.norm = nn.LayerNorm(embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor, edges: Edges, joined: Tensor, *, dense: bool) -> Tensor:
        """What is added to the features (N, L, D); ``joined`` (N, L) tells the nodes that an edge ends at."""
        values, scale = self.value(features), edges.edge_weight[..., None]  # (E, 1) or (N, L, L, 1)
        for factors in self.factors:
            scale = scale * factors(edges.edge_attr).to(scale.dtype)  # (..., H)
        if dense:
            received = _products(values, edges.matrices(scale, *joined.shape))
        else:
            nodes = values.flatten(0, 1)
            received = self.propagate(edges.edge_index, x=nodes, scale=scale).view(values.shape)
        update: Tensor = self.output(self.norm(received.to(values.dtype)))
        return update.masked_fill(~joined[..., None], 0)  # norm and output would make their biases of no message

    def message(self, x_j: Tensor, scale: Tensor) -> Tensor:
        """(E, D) values of the sources, each head scaled."""
        heads = x_j.view(*scale.shape, x_j.shape[1] // scale.shape[1])  # (E, H, D / H)
        return (heads * scale[..., None]).view(x_j.shape)


def _products(values: Tensor, scale: Tensor) -> Tensor:
    """Sums (N, L, D) of the values (N, L, D) of the sources, scaled by (N, L, L, H)."""
    n, length, dim = values.shape
    parts = values.view(n, length, scale.shape[3], dim // scale.shape[3]).transpose(1, 2)  # (N, H, L, D / H)
    mixed = torch.matmul(scale.permute(0, 3, 1, 2).to(values.dtype), parts)
    return mixed.transpose(1, 2).flatten(2)


class Branch(nn.Module):
    """Layers over the edges of one kind."""

    def __init__(self, layers: Iterable[GraphConvolution]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor, edges: Edges, *, dense: bool) -> Tensor:
        """What all layers together add to the features (N, L, D)."""
        edges, joined = edges.normalized(*features.shape[:2])
        update = torch.zeros_like(features)
        for layer in self.layers:
            update = update + layer(features + update, edges, joined, dense=dense)
        return update
