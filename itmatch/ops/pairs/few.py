"""Hard alignment with keys that are read as they lie, not packed: of a few queries, or of rows of one length."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from itmatch.ops.pairs.blocks import Memory, block_bytes
from itmatch.ops.ragged import Ragged
from itmatch.ops.threads import each, even_step

FEW_QUERIES = 96  # with more, and rows of several lengths, packing the keys pays
_CONVERTED_BYTES = 1 << 20  # of keys that are converted for a few queries: they are read again at once
_FEW_BYTES = 8 << 20  # of keys that a few queries read as they are, once: the fewer blocks the better
_WIDE = 512  # numbers of a fragment from which the product is faster with the keys first, also for a few queries


def as_they_lie(keys: Ragged, queries: Tensor) -> bool:
    """Whether :func:`best_in_place` is the fast way: on a CPU, of a few queries or of keys in rows of one length."""
    if keys.values.device.type != "cpu" or len(queries) == 0:
        return False
    return len(queries) <= FEW_QUERIES or bool((keys.lengths == keys.longest).all())


def best_in_place(keys: Ragged, queries: Tensor, rows: int | None = None, columns: int = 1024) -> Tensor:
    """(J, M) best inner product of each of M queries (M, D) with the keys of each of J rows.

    Keys are read once, and converted to the type of the queries block by block, in memory that is used again.

    Args:
        keys: on the CPU, the rows one after the other, of one length if there are more than a few queries.
        queries: at least one.
        rows: most rows of keys in a block.
        columns: most queries in a block.
    """
    few, columns = len(queries) <= FEW_QUERIES, min(columns, len(queries))
    queries_first = few and queries.shape[1] < _WIDE
    size = queries.element_size() * max(1, keys.longest) * max(queries.shape[1], columns)
    most = max(1, min(len(keys) if rows is None else rows, _bytes(keys, queries, few=few) // size))
    step = even_step(len(keys), most, queries.device)
    best = queries.new_empty(len(keys), len(queries), dtype=torch.promote_types(queries.dtype, torch.float32))
    converted = 0 if keys.values.dtype == queries.dtype else step * keys.longest
    memory = Memory(queries, step * keys.longest * columns, converted)
    starts, ends = keys.starts.tolist(), (keys.starts + keys.lengths).tolist()

    def align(row: int) -> None:
        last = min(row + step, len(keys))
        block = keys.values[starts[row] : ends[last - 1]]  # (k, D)
        if block.dtype != queries.dtype:
            block = memory.keys[: len(block)].copy_(block)
        for column in range(0, len(queries), columns):
            part = queries[column : column + columns]
            place, to = memory.products[: len(block) * len(part)], best[row:last, column : column + columns]
            if queries_first:
                found = torch.mm(part, block.T, out=place.view(len(part), -1))
                to.copy_(largest_of_runs(found.to(best.dtype), keys.lengths[row:last]).T)
            else:
                found = torch.mm(block, part.T, out=place.view(-1, len(part)))
                to.copy_(_largest_of_rows(found.to(best.dtype), keys.lengths[row:last]))

    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        each(align, range(0, len(keys), step), queries.device, keys.values.numel() * len(queries))
    return best


def _bytes(keys: Ragged, queries: Tensor, *, few: bool) -> int:
    """Of a block: of keys in the type of the products with a few queries, of products with many."""
    if not few:
        return block_bytes("cpu")
    return _FEW_BYTES if keys.values.dtype == queries.dtype else _CONVERTED_BYTES


def largest_of_runs(products: Tensor, lengths: Tensor) -> Tensor:
    """(M, n) largest of each of n runs of columns of (M, k), which have these lengths (n,) and follow each other."""
    if _one_length(lengths, products.shape[1]):
        return products.view(len(products), len(lengths), -1).amax(2)
    places = (lengths.cumsum(0) - lengths).numpy()
    return torch.from_numpy(np.maximum.reduceat(products.numpy(), places, axis=1))


def _largest_of_rows(products: Tensor, lengths: Tensor) -> Tensor:
    """(n, M) largest of each of n runs of rows of (k, M), which have these lengths (n,) and follow each other."""
    if _one_length(lengths, len(products)):
        return products.view(len(lengths), -1, products.shape[1]).amax(1)
    return torch.segment_reduce(products, "max", lengths=lengths, axis=0)


def _one_length(lengths: Tensor, size: int) -> bool:
    """Whether runs of these lengths (n,), ``size`` together, are of one length."""
    return size == len(lengths) * int(lengths[0]) and bool((lengths == lengths[0]).all())
