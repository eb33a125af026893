"""The weighted graphs that messages run over: the same edges, kept as a list or as matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from itmatch.nn.relations._geometry import edge_geometry, pairwise_geometry
from itmatch.ops.compiling import cached_property

Affinity = tuple[Tensor, Tensor]  # queries of the targets and keys of the sources, (N, L, D) each


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of one kind, as a list or as one matrix a row.

    Args:
        weight: (E,), or (N, L, L) with entry ``[n, target, source]``; 0 = no edge.
        nodes: (2, E) source and target nodes of a list; None for matrices.
        attributes: what the factors of the edges are computed from: types (E,) or geometry (E, 8) of a list,
            (N, L, L) and (N, L, L, 8) of matrices; sizes of 1 broadcast.
    """

    weight: Tensor
    nodes: Tensor | None
    attributes: Tensor | None = None

    @classmethod
    def spatial(cls, adjacency: Tensor, boxes: Tensor, mask: Tensor, *, geometry: bool, as_list: bool) -> Edges:
        """From the matrices (N, L, L); without geometry all edges are of type 0."""
        n, length = mask.shape
        if not as_list:
            attributes = pairwise_geometry(boxes, mask) if geometry else _type_zero(mask, 3)
            return cls(adjacency, None, attributes)
        row, target, source = adjacency.nonzero().unbind(1)  # sorted by target
        nodes = torch.stack((row * length + source, row * length + target))
        if not geometry:
            return cls(adjacency[row, target, source], nodes, _type_zero(mask, 1))
        flat = boxes.reshape(n * length, 4)
        return cls(adjacency[row, target, source], nodes, edge_geometry(flat[nodes[1]], flat[nodes[0]]))


def _type_zero(mask: Tensor, dimensions: int) -> Tensor:
    return torch.zeros((1,) * dimensions, dtype=torch.int64, device=mask.device)


class Graph(ABC):
    """Edges of one kind or several, over the padded fragments (N, L) of a batch."""

    @property
    @abstractmethod
    def joined(self) -> Tensor:
        """(N, L) bool: the nodes that some edge of a weight above 0 ends at."""

    @abstractmethod
    def propagate(self, values: Tensor, factors: Sequence[Tensor | None], affinity: Affinity | None) -> Tensor:
        """Weighted means of the values of the sources of each node.

        Args:
            values: (N, L, D).
            factors: for each kind of edges, factors per head in the form of its attributes, (..., H); None = 1.
            affinity: multiply the weights by ``exp(query . key / sqrt(D))``.

        Returns:
            (N, L, D), in the type of ``values``; 0 for nodes that no edge ends at.
        """


class DenseGraph(Graph):
    """Matrices (N, L, L), and matrix products over them: for complete graphs, and for small ones."""

    def __init__(self, edges: Sequence[Edges], shape: tuple[int, int], dtype: torch.dtype) -> None:
        self.edges, self.shape, self.dtype = list(edges), shape, dtype

    @cached_property
    def weight(self) -> Tensor:
        """(N, L, L)."""
        return torch.stack([self._matrix(part, part.weight.to(self.dtype)) for part in self.edges]).sum(0)

    @property
    def joined(self) -> Tensor:
        """(N, L) bool."""
        return (self.weight > 0).any(2)

    def propagate(self, values: Tensor, factors: Sequence[Tensor | None], affinity: Affinity | None) -> Tensor:
        """Weighted means, by one matrix product a row, or a row and head."""
        weight, share = self.weight, None
        if affinity is not None:
            share = self._affinity(affinity)  # (N, L, L)
            weight = weight * share
        total = weight.sum(2, keepdim=True).clamp(min=torch.finfo(self.dtype).tiny)  # (N, L, 1)
        if all(factor is None for factor in factors):
            return torch.bmm((weight / total).to(values.dtype), values).to(values.dtype)
        share = total.reciprocal() if share is None else share / total
        scaled = self._scaled(factors) * share[..., None]  # (N, L, L, H)
        n, length, heads = *self.shape, scaled.shape[-1]
        parts = values.view(n, length, heads, values.shape[2] // heads).transpose(1, 2)  # (N, H, L, D / H)
        mixed = torch.matmul(scaled.permute(0, 3, 1, 2).to(values.dtype), parts)
        return mixed.transpose(1, 2).reshape(values.shape).to(values.dtype)

    def _affinity(self, affinity: Affinity) -> Tensor:
        """(N, L, L), 1 for the nearest neighbour of a node."""
        query, key = affinity
        logits = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2)).to(self.dtype)
        absent = self.weight <= 0
        top = logits.detach().masked_fill(absent, torch.finfo(self.dtype).min).amax(2, keepdim=True)
        return (logits - top).masked_fill(absent, -torch.inf).exp()

    def _scaled(self, factors: Sequence[Tensor | None]) -> Tensor:
        """(N, L, L, H) sums of the weights times the factors."""
        sums: Tensor | None = None
        for part, factor in zip(self.edges, factors, strict=True):
            scaled = part.weight.to(self.dtype)[..., None]
            scaled = self._matrix(part, scaled if factor is None else scaled * factor.to(self.dtype))
            sums = scaled if sums is None else sums + scaled
        assert sums is not None  # there is a kind of edges
        return sums

    def _matrix(self, part: Edges, values: Tensor) -> Tensor:
        """Values (E, ...) of a list of edges, summed into matrices (N, L, L, ...)."""
        if part.nodes is None:
            return values
        n, length = self.shape
        source, target = part.nodes
        matrix = values.new_zeros(n * length * length, *values.shape[1:])
        summed = matrix.index_add(0, target * length + source % length, values)
        return summed.view(n, length, length, *values.shape[1:])


class SparseGraph(Graph):
    """One list of edges, and messages along them by ``torch_geometric``: for large sparse graphs."""

    def __init__(self, edges: Sequence[Edges], shape: tuple[int, int], dtype: torch.dtype) -> None:
        lists = [part.nodes for part in edges if part.nodes is not None]
        if len(lists) != len(edges):
            raise ValueError("SparseGraph: matrices, expected lists of edges")
        self.nodes = torch.cat(lists, 1)
        self.weight = torch.cat([part.weight.to(dtype) for part in edges])
        self.sizes = [part.weight.shape[0] for part in edges]
        self.shape, self.dtype = shape, dtype

    @property
    def joined(self) -> Tensor:
        """(N, L) bool."""
        return (self._sum_by_target(self.weight) > 0).view(self.shape)

    def propagate(self, values: Tensor, factors: Sequence[Tensor | None], affinity: Affinity | None) -> Tensor:
        """Weighted means, by message passing."""
        from itmatch.nn.relations._message_passing import scaled_sum  # imports torch_geometric, which takes seconds

        weight = self.weight if affinity is None else self.weight * self._affinity(affinity)
        total = self._sum_by_target(weight).clamp(min=torch.finfo(self.dtype).tiny)
        share = (weight / total[self.nodes[1]])[:, None]  # (E, 1)
        if any(factor is not None for factor in factors):
            share = share * self._joint(factors)  # (E, H)
        flat = values.reshape(prod(self.shape), -1)
        summed: Tensor = scaled_sum()(flat, self.nodes, share)
        return summed.to(values.dtype).view(values.shape)

    def _affinity(self, affinity: Affinity) -> Tensor:
        """(E,), 1 for the nearest neighbour of a node."""
        query, key = (side.reshape(prod(self.shape), -1) for side in affinity)
        source, target = self.nodes
        logits = (query[target] * key[source]).sum(1).to(self.dtype) * query.shape[1] ** -0.5
        absent = self.weight <= 0
        lowest = torch.finfo(self.dtype).min
        top = logits.new_full((prod(self.shape),), lowest)
        top = top.scatter_reduce(0, target, logits.detach().masked_fill(absent, lowest), "amax")
        nearness: Tensor = (logits - top[target]).masked_fill(absent, -torch.inf).exp()
        return nearness

    def _joint(self, factors: Sequence[Tensor | None]) -> Tensor:
        """(E, H) factors of all kinds of edges."""
        heads = next(factor.shape[-1] for factor in factors if factor is not None)
        one = self.weight.new_ones(1, 1)
        rows = [(one if factor is None else factor.to(self.dtype)) for factor in factors]
        return torch.cat([row.expand(size, heads) for row, size in zip(rows, self.sizes, strict=True)])

    def _sum_by_target(self, values: Tensor) -> Tensor:
        return values.new_zeros(prod(self.shape)).index_add(0, self.nodes[1], values)
