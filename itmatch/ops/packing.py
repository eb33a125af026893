"""Fragments without their padding: what evaluation keeps, and what travels between processes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itmatch.batch import Fragments, Rows, chosen_rows
from itmatch.ops.collectives import all_gather_ragged
from itmatch.ops.masking import at_least_float32, lengths_to_mask


@dataclass(frozen=True, eq=False)
class PackedFragments:
    """The real fragments of many images or captions, one after the other.

    Captions differ in length; padded to the longest, those of a test set take several times the memory that their words
    need. Rows are padded again when they are asked for, ``packed[rows]``, a block at a time.

    Args:
        values: (K, D), the real fragments of all rows.
        starts: (N,) int64 on the CPU, place in ``values`` of the first fragment of each row.
        lengths: (N,) int64 on the CPU, fragments of each row.
        pooled: (N, D), one vector a row, or None.
        is_relation: (K,) bool, or None.

    Example:
        >>> features, mask = torch.ones(2, 3, 4), torch.tensor([[True, True, True], [True, False, False]])
        >>> packed = PackedFragments.pack(Fragments(features, mask))
        >>> packed.values.shape, packed[1:].features.shape
        (torch.Size([4, 4]), torch.Size([1, 1, 4]))
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor
    pooled: Tensor | None = None
    is_relation: Tensor | None = None

    @classmethod
    def pack(cls, fragments: Fragments, dtype: torch.dtype | None = None) -> PackedFragments:
        """Leave the padding out; ``dtype`` is that of what is kept, by default the fragments' own."""
        mask = fragments.mask
        rows, places = mask.nonzero(as_tuple=True)
        values = fragments.features[rows, places]
        pooled, is_relation = fragments.pooled, fragments.is_relation
        if dtype is not None:
            values, pooled = values.to(dtype), None if pooled is None else pooled.to(dtype)
        lengths = mask.sum(1).cpu()
        return cls(
            values,
            lengths.cumsum(0) - lengths,
            lengths,
            pooled,
            None if is_relation is None else is_relation[rows, places],
        )

    def __len__(self) -> int:
        """Number of images, or of captions."""
        return len(self.lengths)

    def __getitem__(self, rows: Rows) -> Fragments:
        """Some of the rows, padded to the longest of them, in at least float32. Gradients flow back."""
        rows = chosen_rows(rows, len(self), "PackedFragments")
        chosen = rows if isinstance(rows, slice) else rows.cpu()
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        longest = int(lengths.max()) if len(lengths) else 0
        mask = lengths_to_mask(lengths, longest)  # (n, L)
        device = self.values.device
        total = int(lengths.sum())
        place = None if total == mask.numel() else mask.flatten().nonzero()[:, 0].to(device)
        if bool((starts[1:] == (starts + lengths)[:-1]).all()):  # they lie next to each other: nothing to copy
            first = int(starts[0]) if len(starts) else 0
            index: slice | Tensor = slice(first, first + total)
        else:
            index = (starts[:, None] + torch.arange(longest))[mask].to(device)  # (k,)
        features = _padded(at_least_float32(_taken(self.values, index)), place, mask.shape)
        is_relation = None
        if self.is_relation is not None:
            is_relation = _padded(_taken(self.is_relation, index), place, mask.shape)
        pooled = None
        if self.pooled is not None:
            pooled = at_least_float32(self.pooled[rows if isinstance(rows, slice) else rows.to(self.pooled.device)])
        return Fragments.unchecked(features, mask.to(device), pooled, is_relation)

    def select(self, rows: Tensor) -> PackedFragments:
        """Some of the rows (n,), in that order; the values are not copied."""
        rows = rows.cpu()
        pooled = None if self.pooled is None else self.pooled[rows.to(self.pooled.device)]
        return replace(self, starts=self.starts[rows], lengths=self.lengths[rows], pooled=pooled)

    @staticmethod
    def cat(parts: list[PackedFragments]) -> PackedFragments:
        """The rows of several parts; empties the list, so that large parts and the whole are not held together."""
        if not parts:
            raise ValueError("PackedFragments.cat: no parts")
        kinds = {(part.pooled is None, part.is_relation is None) for part in parts}
        if len(kinds) > 1:
            raise ValueError("PackedFragments.cat: some parts have pooled or is_relation and some have none")
        lengths = torch.cat([part.lengths for part in parts])
        values = parts[0].values.new_empty(sum(len(part.values) for part in parts), parts[0].values.shape[1])
        starts, start = torch.empty_like(lengths), 0
        pooled = None if parts[0].pooled is None else torch.cat([p.pooled for p in parts if p.pooled is not None])
        relations = [part.is_relation for part in parts if part.is_relation is not None]
        row = 0
        while parts:
            part = parts.pop(0)
            values[start : start + len(part.values)] = part.values
            starts[row : row + len(part)] = part.starts + start
            start, row = start + len(part.values), row + len(part)
        return PackedFragments(values, starts, lengths, pooled, torch.cat(relations) if relations else None)

    def gathered(self) -> PackedFragments:
        """The rows of all processes, in the order of the processes; gradients flow back to where they come from.

        Raises:
            ValueError: the rows are a selection.
        """
        if not bool((self.starts == self.lengths.cumsum(0) - self.lengths).all()):
            raise ValueError("PackedFragments.gathered: a selection of rows; gather first, then select")
        lengths = all_gather_ragged(self.lengths.to(self.values.device)).cpu()
        return PackedFragments(
            all_gather_ragged(self.values),
            lengths.cumsum(0) - lengths,
            lengths,
            None if self.pooled is None else all_gather_ragged(self.pooled),
            None if self.is_relation is None else all_gather_ragged(self.is_relation),
        )


def _taken(values: Tensor, index: slice | Tensor) -> Tensor:
    return values[index] if isinstance(index, slice) else values.index_select(0, index)


def _padded(values: Tensor, place: Tensor | None, shape: torch.Size) -> Tensor:
    """Real values (k, ...) at their places of a padded tensor (n, L, ...), the rest 0."""
    if place is not None:
        values = values.new_zeros(shape.numel(), *values.shape[1:]).index_copy(0, place, values)
    return values.view(*shape, *values.shape[1:])


def first_places(index: Tensor) -> Tensor:
    """Where each different value of ``index`` (N,) stands for the first time, in the order of the values.

    Example:
        >>> first_places(torch.tensor([7, 3, 7]))
        tensor([1, 0])
    """
    order = torch.argsort(index, stable=True)
    ordered = index[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]
