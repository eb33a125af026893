"""Hard alignment of a few queries with many keys, as in a search: reading the keys is most of the work."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from itmatch.ops.ragged import Ragged

FEW_QUERIES = 96  # with more, packing the keys pays
_BLOCK_BYTES = 1 << 20  # of keys in the type of the products, and of products: a core's cache holds them


def best_of_few(keys: Ragged, queries: Tensor, rows: int) -> Tensor:
    """(J, M) best inner product of each of M queries (M, D) with the keys of each of J rows.

    Keys are read once, as they lie, and converted to the type of the queries block by block.

    Args:
        keys: on the CPU, the rows one after the other.
        queries: few of them.
        rows: most rows of keys in a block.
    """
    best = queries.new_empty(len(keys), len(queries), dtype=torch.promote_types(queries.dtype, torch.float32))
    size = queries.element_size() * max(1, keys.longest) * max(queries.shape[1], len(queries))
    step = max(1, min(rows, _BLOCK_BYTES // size))
    ends = (keys.starts + keys.lengths).tolist()
    starts = keys.starts.tolist()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for row in range(0, len(keys), step):
            last = min(row + step, len(keys))
            products = queries @ keys.values[starts[row] : ends[last - 1]].to(queries.dtype).T  # (M, k)
            best[row:last] = largest_of_runs(products.to(best.dtype), keys.lengths[row:last]).T
    return best


def largest_of_runs(products: Tensor, lengths: Tensor) -> Tensor:
    """(M, n) largest of each of n runs of columns of (M, k), which have these lengths (n,) and follow each other."""
    count = len(lengths)
    if products.shape[1] == count * int(lengths[0]) and bool((lengths == lengths[0]).all()):
        return products.view(len(products), count, -1).amax(2)
    places = (lengths.cumsum(0) - lengths).numpy()
    return torch.from_numpy(np.maximum.reduceat(products.numpy(), places, axis=1))
