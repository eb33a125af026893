"""Hard alignment in blocks that stay in the cache: which rows and queries are worked on at a time, and how they lie."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from itmatch.hostcopies import sent
from itmatch.ops.pairs.sides import Query, device_kind
from itmatch.ops.ragged import Ragged

_QUERY_COLUMNS = {"cpu": 1024, "cuda": 8192}  # queries per block
_BLOCK_BYTES = {"cpu": 2 << 20, "cuda": 64 << 20}  # scores per block: they stay in a core's cache / in the GPU's L2


@dataclass(frozen=True, eq=False)
class PackedBlock:
    """A few rows of a :class:`Ragged`, longest first, stored place by place.

    All first fragments come first, then the second fragments of the rows that have one, and so on: no padding, and
    a reduction over the fragments of a row is a few reductions over slices.

    Args:
        row: (n,) the rows of the block, longest first.
        index: (k,) where in ``Ragged.values`` the packed fragments lie.
        runs: ``(places, rows)`` for each stretch of places at which the same number of rows goes on.
    """

    row: Tensor
    index: Tensor
    runs: list[tuple[int, int]]


def packed_blocks(ragged: Ragged, block_rows: int) -> Iterator[PackedBlock]:
    """All rows, sorted by length, in blocks of at most ``block_rows``."""
    device = ragged.values.device
    for rows in ragged.blocks(lambda count, *_: count <= block_rows):
        rows = rows.flip(0)
        lengths = ragged.lengths[rows]
        places = torch.arange(int(lengths[0]))[:, None]
        alive = places < lengths  # (places, n)
        runs = [(len(list(same)), count) for count, same in groupby(alive.sum(1).tolist())]
        grid = ragged.starts[rows] + places
        index = grid.flatten() if len(runs) == 1 else grid[alive]
        yield PackedBlock(sent(rows, device), sent(index, device), runs)


def block_shape(keys: Ragged, queries: Ragged, width: int, query: Query, chunk_size: int | None) -> tuple[int, int]:
    """Rows of keys and number of queries per block; ``width`` is the padded length of the queries."""
    count = len(queries.values)
    if chunk_size is not None and query == "regions":  # images are the queries
        count = min(count, chunk_size * width)
    rows, columns = key_block(keys, count)
    return (rows if chunk_size is None or query == "regions" else chunk_size), columns


def key_block(keys: Ragged, queries: int) -> tuple[int, int]:
    """Rows of keys and number of queries per block, so that its products stay in a cache."""
    kind = device_kind(keys.values)
    columns = max(1, min(_QUERY_COLUMNS[kind], queries))
    size = keys.values.element_size() * columns * max(1, keys.longest)
    return max(1, block_bytes(kind) // size), columns


def block_bytes(kind: str) -> int:
    """Bytes of the scores of a block, on a "cpu" or with "cuda"."""
    return _BLOCK_BYTES[kind]


class Memory(threading.local):
    """What blocks are worked on in, again and again; each thread has its own.

    Args:
        queries: (M, D); what is kept has their type and size.
        products: how many inner products.
        keys: how many keys, if they are converted.
    """

    def __init__(self, queries: Tensor, products: int, keys: int = 0) -> None:
        self.products = queries.new_empty(products)
        self.keys = queries.new_empty(keys, queries.shape[1])
