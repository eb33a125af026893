"""The learned parts of relations along explicit edges: factors of edges, layers, and how branches are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itmatch.nn.relations._geometry import GeometryPerceptron
from itmatch.nn.relations._graphs import Edges, Graph

Merge = Literal["mean", "concat", "gate", "union"]
MakeFactors = Callable[[], nn.Module]


class NoFactors(nn.Module):
    """All edges of a kind count alike."""

    def forward(self, edges: Edges) -> None:
        """None stands for factors of 1."""
        return


class TypeFactors(nn.Module):
    """A learned factor for each type of edge and each head, (..., H)."""

    def __init__(self, num_types: int, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(1 + torch.randn(num_types, num_heads))  # types differ from the start

    def forward(self, edges: Edges) -> Tensor:
        """Look the types up."""
        assert edges.attributes is not None
        return F.embedding(edges.attributes, self.table)


class GeometryFactors(nn.Module):
    """Factors per head, (..., H), from how the two boxes lie to each other."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.perceptron = GeometryPerceptron(num_heads)
        hidden, output = self.perceptron.hidden, self.perceptron.output
        # larger weights than torch's own: left and right then differ from the start
        nn.init.kaiming_normal_(hidden.weight)
        nn.init.normal_(output.weight, std=(2 / hidden.out_features) ** 0.5)

    def forward(self, edges: Edges) -> Tensor:
        """1 plus what the geometry says."""
        assert edges.attributes is not None
        factors: Tensor = 1 + self.perceptron(edges.attributes)
        return factors


class GraphLayer(nn.Module):
    """One round of messages; what it adds to a node is 0 at the start, and stays 0 where no edge ends."""

    def __init__(
        self, embed_dim: int, factors: Sequence[MakeFactors], num_heads: int, *, affinity: bool, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.value = nn.Linear(embed_dim, embed_dim, bias=False)
        self.factors = nn.ModuleList(make() for make in factors)
        self.query = nn.Linear(embed_dim, embed_dim) if affinity else None
        self.key = nn.Linear(embed_dim, embed_dim, bias=False) if affinity else None  # it would cancel
        self.norm = nn.LayerNorm(embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, graph: Graph, joined: Tensor, edges: Sequence[Edges]) -> Tensor:
        """What is added to the features (N, L, D)."""
        affinity = None
        if self.query is not None and self.key is not None:
            affinity = self.query(features), self.key(features)
        factors = [module(part) for module, part in zip(self.factors, edges, strict=True)]
        received = graph.propagate(self.value(features), factors, affinity)
        update: Tensor = self.dropout(self.output(self.norm(received)))
        return update.masked_fill(~joined[..., None], 0)  # norm and output would make their biases of no message


class Branch(nn.Module):
    """Layers over one graph."""

    def __init__(self, layers: Sequence[GraphLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor, graph: Graph, edges: Sequence[Edges]) -> Tensor:
        """What all layers together add to the features (N, L, D)."""
        joined = graph.joined
        update = torch.zeros_like(features)
        for layer in self.layers:
            update = update + layer(features + update, graph, joined, edges)
        return update


class MeanMerge(nn.Module):
    """The mean of the updates."""

    def forward(self, features: Tensor, updates: Sequence[Tensor]) -> Tensor:
        """(N, L, D), what is added to the features."""
        return torch.stack(list(updates)).mean(0)


class ConcatMerge(nn.Module):
    """A linear layer on both updates, which starts as their mean."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * embed_dim, embed_dim, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(embed_dim).repeat(1, 2) / 2)

    def forward(self, features: Tensor, updates: Sequence[Tensor]) -> Tensor:
        """(N, L, D), what is added to the features."""
        merged: Tensor = self.linear(torch.cat(list(updates), -1))
        return merged


class GateMerge(nn.Module):
    """A mixture of the updates, weighed for every node and feature by a gate that starts at a half."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * embed_dim, embed_dim)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, features: Tensor, updates: Sequence[Tensor]) -> Tensor:
        """(N, L, D), what is added to the features."""
        first, second = updates
        share = torch.sigmoid(self.gate(torch.cat((features + first, features + second), -1)))
        return share * first + (1 - share) * second


def make_merge(merge: Merge, embed_dim: int) -> nn.Module:
    """The module that merges the updates of two branches."""
    if merge == "concat":
        return ConcatMerge(embed_dim)
    return GateMerge(embed_dim) if merge == "gate" else MeanMerge()
