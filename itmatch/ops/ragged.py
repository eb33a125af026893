"""Rows of unequal length, without padding: the one type for fragments that are kept, cut into blocks, and sent."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.hostcopies import on_host, real_places, sent
from itmatch.ops.collectives import all_gather_ragged
from itmatch.ops.masking import lengths_to_mask
from itmatch.tensordata import Rows, chosen_rows


@dataclass(frozen=True, eq=False)
class Ragged:
    """The real fragments of many images or captions, one after the other.

    :class:`~itmatch.batch.Fragments` is the padded view of some rows, ``ragged[rows]``; ``Ragged.of(fragments)`` leads
    back. Lengths are on the CPU, since whoever goes over the rows needs the numbers.

    Args:
        values: (K, D), the real fragments of all rows.
        lengths: (N,) int64 on the CPU, fragments of each row.
        starts: (N,) int64 on the CPU, position in ``values`` of the first fragment of each row.
        pooled: (N, D), one vector per row, or None.
        is_relation: (K,) bool, or None.

    Example:
        >>> features, mask = torch.ones(2, 3, 4), torch.tensor([[True, True, True], [True, False, False]])
        >>> ragged = Ragged.of(Fragments(features, mask))
        >>> ragged.values.shape, ragged[1:].features.shape
        (torch.Size([4, 4]), torch.Size([1, 1, 4]))
    """

    values: Tensor
    lengths: Tensor
    starts: Tensor
    pooled: Tensor | None = None
    is_relation: Tensor | None = None

    @classmethod
    def of(cls, fragments: Fragments, dtype: torch.dtype | None = None) -> Ragged:
        """Fragments without their padding. Gradients flow back.

        Args:
            fragments: where none is padded, their memory is shared.
            dtype: of what is kept; None: the fragments' own.
        """
        flat = cls.from_padded(fragments.features, fragments.mask)
        pooled, is_relation = fragments.pooled, fragments.is_relation
        return cls(
            flat.values if dtype is None else flat.values.to(dtype),
            flat.lengths,
            flat.starts,
            pooled if dtype is None or pooled is None else pooled.to(dtype),
            None if is_relation is None else is_relation.flatten()[real_places(fragments.mask)],
        )

    @classmethod
    def from_padded(cls, features: Tensor, mask: Tensor) -> Ragged:
        """What stands in ``features`` (N, L, D) where ``mask`` (N, L) is True. Gradients flow back."""
        lengths = on_host(mask).sum(1)
        values = features.flatten(0, 1)
        if int(lengths.sum()) < len(values):
            values = values.index_select(0, real_places(mask))
        return cls(values, lengths, _starts(lengths))

    @classmethod
    def over(cls, features: Tensor, mask: Tensor) -> Ragged:
        """As :meth:`from_padded`, for what is padded again, ``ragged[rows]``: nothing is copied before that.

        The values are all of ``features``, where the real fragments of each row stand first; elsewhere the real ones.
        """
        width, here = mask.shape[1], on_host(mask)
        lengths = here.sum(1)
        if not torch.equal(here, lengths_to_mask(lengths, width)):
            return cls.from_padded(features, mask)
        return cls(features.flatten(0, 1), lengths, width * torch.arange(len(lengths)))

    @classmethod
    def grouped(cls, values: Tensor, row: Tensor, num_rows: int) -> Ragged:
        """Values (K, D), each of one of ``num_rows`` rows (K,), in their order; a row may have none."""
        lengths = torch.bincount(on_host(row), minlength=num_rows)
        return cls(values[row.argsort(stable=True)], lengths, _starts(lengths))

    def __len__(self) -> int:
        """Number of images, or of captions."""
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """The largest length; 0 without rows."""
        return int(self.lengths.max()) if len(self) else 0

    def __getitem__(self, rows: Rows) -> Fragments:
        """Some of the rows, padded to the longest of them. Gradients flow back."""
        rows = chosen_rows(rows, len(self), type(self).__name__)
        part = self.select(rows)
        mask = lengths_to_mask(part.lengths)  # (n, L)
        index = part._index(mask)
        mask = sent(mask, self.values.device)
        features = _padded(self.values, index, mask)
        is_relation = None if self.is_relation is None else _padded(self.is_relation, index, mask)
        return Fragments.unchecked(features, mask, part.pooled, is_relation)

    def _index(self, mask: Tensor) -> slice | Tensor:
        """Where the values of all rows lie, in the order of the rows; some value or other for what is padded."""
        adjacent = torch.equal(self.starts[1:], (self.starts + self.lengths)[:-1])
        if adjacent and bool(mask.all()):  # nothing to copy
            first = int(self.starts[0]) if len(self) else 0
            return slice(first, first + mask.numel())
        grid = self.starts[:, None] + torch.arange(mask.shape[1])  # (n, L)
        return sent(grid.flatten().clamp(max=len(self.values) - 1), self.values.device)

    def select(self, rows: slice | Tensor) -> Ragged:
        """Some of the rows, in that order; the values are not copied."""
        rows = rows if isinstance(rows, slice) else on_host(rows)
        pooled = self.pooled
        if pooled is not None:
            pooled = pooled[rows if isinstance(rows, slice) else sent(rows, pooled.device)]
        return replace(self, lengths=self.lengths[rows], starts=self.starts[rows], pooled=pooled)

    def blocks(self, fits: Callable[[int, int, int, int], bool]) -> Iterator[Tensor]:
        """Numbers (n,) of all rows, on the CPU: short rows first, in blocks as large as they may be.

        Args:
            fits: ``fits(rows, shortest, longest, fragments)``, whether a block may have so many rows, of these lengths,
                with so many fragments in all. One row is always a block.
        """
        order = self.lengths.argsort(stable=True)
        lengths: list[int] = self.lengths[order].tolist()
        start = fragments = 0
        for stop, length in enumerate(lengths):
            if stop > start and not fits(stop + 1 - start, lengths[start], length, fragments + length):
                yield order[start:stop]
                start, fragments = stop, 0
            fragments += length
        if lengths:
            yield order[start:]

    @staticmethod
    def cat(parts: list[Ragged]) -> Ragged:
        """The rows of several parts; empties the list, so that large parts and the whole are not held together."""
        if not parts:
            raise ValueError("Ragged.cat: no parts")
        kinds = {(part.pooled is None, part.is_relation is None) for part in parts}
        if len(kinds) > 1:
            raise ValueError("Ragged.cat: some parts have pooled or is_relation and some have none")
        pooled = None if parts[0].pooled is None else torch.cat([p.pooled for p in parts if p.pooled is not None])
        relations = [part.is_relation for part in parts if part.is_relation is not None]
        sizes = torch.tensor([len(part.values) for part in parts])
        lengths = torch.cat([part.lengths for part in parts])
        starts = torch.cat([part.starts + start for part, start in zip(parts, _starts(sizes), strict=True)])
        dtype = functools.reduce(torch.promote_types, [part.values.dtype for part in parts])
        values, start = parts[0].values.new_empty(int(sizes.sum()), *parts[0].values.shape[1:], dtype=dtype), 0
        while parts:
            part = parts.pop(0).values
            values[start : start + len(part)] = part
            start += len(part)
        return Ragged(values, lengths, starts, pooled, torch.cat(relations) if relations else None)

    def gathered(self) -> Ragged:
        """The rows of all processes, in the order of the processes; gradients flow back to where they come from.

        Raises:
            ValueError: the rows are a selection.
        """
        if not torch.equal(self.starts, _starts(self.lengths)):
            raise ValueError("Ragged.gathered: a selection of rows; gather first, then select")
        lengths = all_gather_ragged(sent(self.lengths, self.values.device)).cpu()
        return Ragged(
            all_gather_ragged(self.values),
            lengths,
            _starts(lengths),
            None if self.pooled is None else all_gather_ragged(self.pooled),
            None if self.is_relation is None else all_gather_ragged(self.is_relation),
        )


def at_places(values: Tensor, mask: Tensor, dim: int = 0) -> Tensor:
    """Real values along ``dim`` (..., K, ...) at the K places of a mask (N, L): (..., N, L, ...), 0 where padded.

    Example:
        >>> at_places(torch.tensor([5, 7]), torch.tensor([[True, False], [False, True]]))
        tensor([[5, 0],
                [0, 7]])
    """
    if values.shape[dim] != mask.numel():
        shape = list(values.shape)
        shape[dim] = mask.numel()
        places = sent(real_places(mask), values.device)
        values = values.new_zeros(shape).index_copy_(dim, places, values)
    return values.view(*values.shape[:dim], *mask.shape, *values.shape[dim + 1 :])


def _padded(values: Tensor, index: slice | Tensor, mask: Tensor) -> Tensor:
    """Values (K, ...) at ``index`` as (n, L, ...), 0 where ``mask`` (n, L) is False."""
    if isinstance(index, slice):
        whole = index == slice(0, len(values))  # the gradient of a slice is a copy as large as the whole
        return (values if whole else values[index]).view(*mask.shape, *values.shape[1:])
    padding = ~mask.view(-1, *[1] * (values.ndim - 1))
    padded = values.index_select(0, index).masked_fill_(padding, 0)  # before the view, whose gradient would copy
    return padded.view(*mask.shape, *values.shape[1:])


def _starts(lengths: Tensor) -> Tensor:
    return lengths.cumsum(0) - lengths
