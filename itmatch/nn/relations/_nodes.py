"""Relations as nodes: grouping them by row, and letting the fragments that they join take from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.nn.relations.base import Related
from itmatch.ops.ragged import Ragged

ROLES = 2  # a fragment is the subject or the object of a relation


class RelationNodes(nn.Module):
    """Makes one vector per relation from its two ends and what else is known; then fragments attend to theirs.

    At the start a relation is the mean of its two ends, and the fragments stay as they are.

    Args:
        embed_dim: size D of the fragments.
        extra: how many numbers per relation are known beside its two ends: predicate, geometry.
        num_heads: heads of the attention.
        dropout: probability, on the vectors of the relations and on what the fragments take.
    """

    def __init__(self, embed_dim: int, extra: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        from torch_geometric.nn import GATv2Conv  # here, since importing it takes seconds

        self.hidden = nn.Linear(2 * embed_dim + extra, embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.attention = GATv2Conv(
            embed_dim, embed_dim // num_heads, num_heads, edge_dim=ROLES, add_self_loops=False, bias=False
        )
        self.update = nn.Linear(embed_dim, embed_dim, bias=False)
        nn.init.zeros_(self.update.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, row: Tensor, ends: Tensor, extra: Tensor) -> Related:
        """Fragments (N, L, D), rows (E,) of the relations, their ends (2, E) within the row, and extra (E, X)."""
        n, length, dim = features.shape
        flat = features.reshape(n * length, dim)
        subject, target = row * length + ends  # (E,) each
        known = torch.cat((flat[subject], extra.to(flat.dtype), flat[target]), -1)  # (E, 2 D + X)
        ends_mean = (flat[subject] + flat[target]) / 2
        vectors = ends_mean + self.output(self.dropout(self.hidden(known).relu()))  # (E, D)
        nodes = Ragged.grouped(vectors, row, n)[:]
        # Without any relation all of this goes on with nothing, so that every process has a gradient of all parameters.
        relation = torch.arange(len(row), device=row.device).repeat(ROLES)
        incidence = torch.stack((relation, torch.cat((subject, target))))  # (2, 2 E)
        role = torch.eye(ROLES, device=row.device, dtype=vectors.dtype).repeat_interleave(len(row), 0)
        taken = self.attention((vectors, flat.to(vectors.dtype)), incidence, edge_attr=role)  # (N L, D)
        joined = torch.zeros(n * length, 1, dtype=torch.bool, device=row.device).index_fill(0, incidence[1], value=True)
        update = self.dropout(self.update(taken)).masked_fill(~joined, 0)
        return Related(features + update.view(features.shape), nodes.features, nodes.mask)
