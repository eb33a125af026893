"""The gradient of hard alignment, which is sparse: every query has one winner among the keys of a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

_ENTRIES = 1 << 22  # winners that the backward pass looks at in one go


def gradients(
    grad: Tensor,
    winner: Tensor,
    offsets: Tensor,
    keys: Tensor,
    queries: Tensor,
    starts: Tensor,
    needed: tuple[bool, ...] = (True, True),
) -> tuple[Tensor | None, Tensor | None]:
    """Of the keys and of the queries; ``starts`` are the offsets of the rows in host memory."""
    if grad.numel() == 0:
        return torch.zeros_like(keys), torch.zeros_like(queries)
    used = _Used.of(grad) if grad.numel() <= _ENTRIES else None  # asked for once; larger ones are gone over in parts
    of_keys = _gradient_of_keys(grad, winner, offsets, keys, queries, starts, used) if needed[0] else None
    of_queries = _gradient_of_queries(grad, winner, offsets, keys, used) if needed[1] else None
    return of_keys, of_queries


@dataclass(frozen=True, eq=False)
class _Used:
    """Where a gradient (J, M) is not zero, row after row; after hard-negative mining that is nearly nowhere."""

    row: Tensor
    column: Tensor

    @classmethod
    def of(cls, grad: Tensor) -> _Used:
        row, column = grad.nonzero().unbind(1)  # a GPU is waited for here, and nowhere else in the backward pass
        return cls(row, column)


def _gradient_of_keys(
    grad: Tensor, winner: Tensor, offsets: Tensor, keys: Tensor, queries: Tensor, starts: Tensor, used: _Used | None
) -> Tensor:
    step = max(1, _ENTRIES // max(1, grad.shape[1]))
    ends = [*starts[::step].tolist(), len(keys)]
    parts = []
    for j, first, last in zip(range(0, len(grad), step), ends[:-1], ends[1:], strict=True):
        part, rows = used or _Used.of(grad[j : j + step]), slice(j, j + step)
        parts.append(_scatter_to_keys(part, grad[rows], winner[rows], offsets[rows] - first, last - first, queries))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gradient_of_queries(grad: Tensor, winner: Tensor, offsets: Tensor, keys: Tensor, used: _Used | None) -> Tensor:
    step = max(1, _ENTRIES // max(1, len(grad)))
    parts = []
    for m in range(0, grad.shape[1], step):
        columns = slice(m, m + step)
        part = used or _Used.of(grad[:, columns])
        parts.append(_gather_from_keys(part, grad[:, columns], winner[:, columns], offsets, keys))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gather_from_keys(used: _Used, grad: Tensor, winner: Tensor, offsets: Tensor, keys: Tensor) -> Tensor:
    """Gradient of each query: the sum, over rows of keys, of its winner there times the incoming gradient."""
    column, order = used.column.sort(stable=True)
    row = used.row.index_select(0, order)
    key = winner[row, column] + offsets.index_select(0, row)
    return _weighted_sums(keys, key, column, grad.shape[1], grad[row, column])


def _scatter_to_keys(used: _Used, grad: Tensor, winner: Tensor, offsets: Tensor, count: int, queries: Tensor) -> Tensor:
    """Gradient of the keys of a block of rows: the sum of the queries they won times the incoming gradient."""
    place = winner[used.row, used.column] + offsets.index_select(0, used.row)
    key, order = place.sort(stable=True)
    row, column = used.row.index_select(0, order), used.column.index_select(0, order)
    return _weighted_sums(queries, column, key, count, grad[row, column])


def _weighted_sums(values: Tensor, index: Tensor, group: Tensor, groups: int, weight: Tensor) -> Tensor:
    """(G, D): sums of ``weight * values[index]`` over the entries of each of G groups; ``group`` is sorted."""
    starts = torch.searchsorted(group, torch.arange(groups, device=group.device))
    return embedding_bag(index, values, starts, mode="sum", per_sample_weights=weight.to(values.dtype))
