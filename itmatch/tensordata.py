"""What the dataclasses of tensors in :mod:`itmatch.batch` are made of: moving, choosing rows, checks, a short repr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Self

from itmatch.hostcopies import keep, known_copy, on_host

Rows: TypeAlias = int | slice | Tensor | Sequence[int]
"""Which rows of a batch: one (the result is still a batch, of one row), consecutive ones, or any."""


class TensorData:
    """What all the dataclasses here can do: move, pin, detach; ``None`` fields stay ``None``."""

    __match_args__: ClassVar[tuple[str, ...]]  # the names of the fields

    @classmethod
    def unchecked(cls, *args: Any, **kwargs: Any) -> Self:
        """The constructor for values that are known to be good, such as slices of checked ones."""
        made = object.__new__(cls)
        given = dict(zip(cls.__match_args__, args, strict=False)) | kwargs
        for name in cls.__match_args__:
            setattr(made, name, given.get(name))
        return made

    def _map(self, function: Any) -> Self:
        values = [getattr(self, name) for name in self.__match_args__]
        return self.unchecked(*(function(x) if isinstance(x, (Tensor, TensorData)) else x for x in values))

    def __repr__(self) -> str:
        """The shapes: ``Fragments(features (2, 36, 1024) float32, mask (2, 36) bool)``."""
        values = ((name, getattr(self, name)) for name in self.__match_args__)
        return f"{type(self).__name__}({', '.join(_shown(*pair) for pair in values if pair[1] is not None)})"

    def to(
        self,
        device: torch.device | str | int | None = None,
        *,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Self:
        """The same data on another device, its floating-point numbers in another type; None leaves either as it is.

        Masks, numbers and edges are still known in host memory then (:mod:`itmatch.hostcopies`).
        """

        def move(value: Tensor | TensorData) -> Tensor | TensorData:
            if isinstance(value, Tensor):
                wanted = dtype if value.is_floating_point() else None
                moved = value.to(value.device if device is None else device, wanted, non_blocking=non_blocking)
                if value.device.type == "cpu" and _is_small(value):
                    keep(moved, value)
                return moved
            return value.to(device, dtype=dtype, non_blocking=non_blocking)

        return self._map(move)

    def cpu(self) -> Self:
        """The same data in host memory."""
        return self.to("cpu")

    def pin_memory(self, device: Any = None) -> Self:
        """The same data in page-locked memory, for asynchronous copies to a GPU."""
        return self._map(lambda value: value.pin_memory(device) if device is not None else value.pin_memory())

    def detach(self) -> Self:
        """The same data, cut from the autograd graph."""
        return self._map(lambda value: value.detach())


class RowData(TensorData):
    """What all of them can do that hold a row per image or caption, with a mask (N, L)."""

    mask: Tensor

    def __len__(self) -> int:
        """Number of images, or of captions."""
        return len(self.mask)

    def _fill_mask(self, values: Tensor) -> None:
        if not isinstance(values, Tensor):
            raise TypeError(f"{type(self).__name__}: a {type(values).__name__}, expected a tensor")
        if self.mask is None:
            self.mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)

    def __getitem__(self, rows: Rows) -> Self:
        """Some of the rows, as a batch; only consecutive ones, by a number or a slice, where there is a graph."""
        chosen = chosen_rows(rows, len(self), type(self).__name__)
        part = self._map(lambda value: value[chosen])
        copy = known_copy(self.mask)
        if copy is not None and copy is not self.mask:
            keep(part.mask, copy[chosen if isinstance(chosen, slice) else on_host(chosen)])
        return part


def chosen_rows(rows: Rows, count: int, name: str) -> slice | Tensor:
    """Which of ``count`` rows are meant, so that whatever is indexed stays a batch.

    Args:
        rows: a number from ``-count`` to ``count - 1``, a slice, or a list or tensor of numbers or of one bool per row.
        count: number of rows.
        name: of what is indexed, for error messages.

    Raises:
        IndexError: no such row.
        TypeError: something else, such as several indices.

    Example:
        >>> chosen_rows(-1, 5, "Fragments")
        slice(4, 5, None)
    """
    if isinstance(rows, slice):
        return rows
    try:
        found = None if isinstance(rows, tuple) else torch.as_tensor(rows)
    except (TypeError, ValueError, RuntimeError):  # None, a string, rows of unequal length
        found = None
    if found is not None and (found.numel() == 0 or not found.is_floating_point()):
        if found.ndim == 0 and found.dtype != torch.bool:
            row = int(found)
            if not -count <= row < count:
                raise IndexError(f"{name}: row {row}, of {count} rows")
            return slice(row % count, row % count + 1)
        if found.ndim == 1 and (found.dtype != torch.bool or len(found) == count):
            return found if found.dtype == torch.bool else found.long()  # uint8 would be taken for a mask
    shown = repr(rows) if found is None else f"of shape {tuple(found.shape)} and {found.dtype}"
    raise TypeError(
        f"{name}: rows {shown}, expected a number, a slice, or one dimension of numbers or of a bool per row"
    )


def readable(tensor: Tensor) -> bool:
    """Whether looking at values is free; on a GPU it would wait for the device."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype | str) -> None:
    """Raise unless a tensor has this shape and this dtype; "float" stands for any floating-point one."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
    if (not tensor.is_floating_point()) if dtype == "float" else (tensor.dtype != dtype):
        raise ValueError(f"{name}: dtype {tensor.dtype}, expected {dtype}")


def check_mask(name: str, mask: Tensor) -> None:
    """Raise unless a mask has two dimensions and (on the CPU) something real in every row."""
    if mask.ndim != 2 or mask.dtype != torch.bool:
        raise ValueError(f"{name}.mask: {tuple(mask.shape)} {mask.dtype}, expected two dimensions of torch.bool")
    if readable(mask) and not bool(mask.any(1).all()):
        row = int((~mask.any(1)).nonzero()[0])
        raise ValueError(f"{name}: row {row} has no valid fragment")


def _is_small(value: Tensor) -> bool:
    """Whether a copy in host memory is worth its place: of all but features and boxes."""
    return not value.is_floating_point() or value.ndim == 1


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"{name}={value!r}"
