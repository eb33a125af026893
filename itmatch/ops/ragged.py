"""Padded rows as one flat list of their real fragments, and back; plans for going over them in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from itmatch.ops.checks import check_whole_or_none

Query = Literal["words", "regions"]

_QUERY_COLUMNS = {"cpu": 1024, "cuda": 8192}  # queries a block
_BLOCK_BYTES = {"cpu": 2 << 20, "cuda": 64 << 20}  # scores a block: they stay in a core's cache / in the GPU's L2


@dataclass(frozen=True, eq=False)
class Ragged:
    """The real fragments of a padded batch, row after row.

    Args:
        values: (K, D), the real fragments; a view of the padded features when nothing is padded.
        lengths: (N,) int64 on the device of ``values``, real fragments of each row.
        positions: (K,) int64, place of each fragment in the flattened padded batch; None when nothing is padded.
        rows: N.
        width: L, padded length.
        longest: largest of ``lengths``.
    """

    values: Tensor
    lengths: Tensor
    positions: Tensor | None
    rows: int
    width: int
    longest: int

    @classmethod
    def from_padded(cls, features: Tensor, mask: Tensor) -> Ragged:
        """Flatten ``features`` (N, L, D), keeping the places where ``mask`` (N, L) is True. Gradients flow back."""
        rows, width, size = features.shape
        lengths = mask.sum(1)
        longest = int(lengths.max()) if rows else 0
        flat = features.reshape(rows * width, size)
        positions = mask.reshape(-1).nonzero().squeeze(1)
        if len(positions) == rows * width:
            return cls(flat, lengths, None, rows, width, longest)
        return cls(flat.index_select(0, positions), lengths, positions, rows, width, longest)

    def offsets(self) -> Tensor:
        """(N,) index in ``values`` of the first fragment of each row."""
        return self.lengths.cumsum(0) - self.lengths

    def pad(self, values: Tensor) -> Tensor:
        """From one row a fragment, (K, D), to padded rows (N, L, D); padded places are 0."""
        if self.positions is not None:
            padded = values.new_zeros(self.rows * self.width, values.shape[1])
            values = padded.index_copy(0, self.positions, values)
        return values.view(self.rows, self.width, -1)

    def pad_columns(self, values: Tensor) -> Tensor:
        """From one column a fragment, (M, K), to padded columns (M, N, L); padded places are 0."""
        if self.positions is not None:
            padded = values.new_zeros(len(values), self.rows * self.width)
            values = padded.index_copy(1, self.positions, values)
        return values.view(len(values), self.rows, self.width)


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
    order = ragged.lengths.argsort(descending=True, stable=True)
    offsets = ragged.offsets()
    lengths = ragged.lengths.cpu()[order.cpu()]  # one synchronisation; the loop below needs the numbers
    for start in range(0, ragged.rows, block_rows):
        row = order[start : start + block_rows]
        alive = torch.arange(int(lengths[start]))[:, None] < lengths[start : start + block_rows]  # (places, n)
        runs = [(len(list(same)), rows) for rows, same in groupby(alive.sum(1).tolist())]
        grid = offsets[row] + torch.arange(len(alive), device=row.device)[:, None]
        index = grid.reshape(-1) if len(runs) == 1 else grid[alive.to(row.device)]
        yield PackedBlock(row, index, runs)


def keys_and_queries(
    image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor, query: str, chunk_size: int | None
) -> tuple[Ragged, Ragged]:
    """Check the arguments of an alignment and flatten its two sides."""
    check_query(query)
    check_sides(image, image_mask, text, text_mask, chunk_size)
    regions = Ragged.from_padded(image, image_mask)
    words = Ragged.from_padded(text, text_mask)
    return (regions, words) if query == "words" else (words, regions)


def check_query(query: str) -> None:
    """Raise unless this says which side's fragments get values."""
    if query not in ("words", "regions"):
        raise ValueError(f'query: {query!r}, expected "words" or "regions"')


def check_sides(image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor, chunk_size: int | None) -> None:
    """Raise unless these are padded fragments of images and captions, in one space, some in every row."""
    for name, features, mask in (("image", image, image_mask), ("text", text, text_mask)):
        if features.ndim != 3 or mask.dtype != torch.bool or tuple(mask.shape) != tuple(features.shape[:2]):
            raise ValueError(
                f"{name}: features {tuple(features.shape)}, mask {tuple(mask.shape)} {mask.dtype}; "
                "expected (N, L, D) and (N, L) torch.bool"
            )
    if image.shape[2] != text.shape[2]:
        raise ValueError(f"embedding sizes differ: image {image.shape[2]}, text {text.shape[2]}")
    check_whole_or_none("chunk_size", chunk_size)
    for name, mask in (("image", image_mask), ("text", text_mask)):
        if not torch.compiler.is_compiling() and not bool(mask.any(1).all()):  # a graph cannot ask
            raise ValueError(f"{name}: row {int(mask.sum(1).argmin())} has no valid fragment")


def compute_dtype(image: Tensor, text: Tensor) -> torch.dtype:
    """The type of inner products: what CUDA autocast says, else at least float32: half products make scores tie."""
    dtype = torch.promote_types(image.dtype, text.dtype)
    if _autocast_chooses(image.device.type) and dtype != torch.float64:
        return torch.get_autocast_dtype(image.device.type)
    return torch.promote_types(dtype, torch.float32)


def _autocast_chooses(kind: str) -> bool:
    return kind != "cpu" and torch.is_autocast_enabled(kind)  # half precision is far slower than float32 on most CPUs


def block_shape(keys: Ragged, queries: Ragged, query: str, chunk_size: int | None) -> tuple[int, int]:
    """Rows of keys and number of queries a block."""
    kind = "cpu" if keys.values.device.type == "cpu" else "cuda"
    columns = max(1, min(_QUERY_COLUMNS[kind], len(queries.values)))
    if chunk_size is not None and query == "regions":  # images are the queries
        columns = max(1, min(columns, chunk_size * queries.width))
    if chunk_size is not None and query == "words":
        return chunk_size, columns
    size = keys.values.element_size() * columns * max(1, keys.longest)
    return max(1, _BLOCK_BYTES[kind] // size), columns
