"""Tensors from what users hold: tensors, numpy arrays, lists."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ArrayLike: TypeAlias = Tensor | npt.ArrayLike
"""A tensor, a numpy array, or a list (of lists) of numbers."""


def as_tensor(name: str, values: ArrayLike) -> Tensor:
    """A tensor as it is; of everything else, its numbers in a tensor on the CPU, without a copy where that can be.

    Args:
        name: of the argument, for error messages.
        values: what was given.

    Raises:
        TypeError: no numbers, or numbers of a type that torch does not have.
        ValueError: rows of unequal length, or a whole number beyond int64.

    Example:
        >>> as_tensor("ranks", [0, 3])
        tensor([0, 3])
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
    except ValueError as error:
        found = f"a {type(values).__name__}"
        raise ValueError(f"{name}: {found}, expected an array of numbers, with rows of one length") from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        found = "None" if values is None else f"a {type(values).__name__} of {array.dtype}"
        raise TypeError(f"{name}: {found}, expected an array of numbers of at most 64 bits")
    if array.dtype.kind == "u":
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: {int(array.max())}, expected numbers that int64 holds")
        array = array.astype(np.int64)  # of unsigned types torch knows little but the name
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):  # torch takes neither
        array = array.copy()
    return torch.from_numpy(array)
