"""What is known in host memory of tensors on a device, so that nobody has to wait for the device to learn it.

A batch is put together in host memory, and whoever cuts the work into blocks wants its lengths there again. So masks,
tokens and edges keep the copy that they were made from beside them when they move to a GPU
(:meth:`itmatch.batch.Batch.to`), and what is made of masks keeps its own. Only what has no such copy is fetched, once.
What was changed in place since is fetched anew; tensors of ``torch.inference_mode`` do not tell of changes, so nobody
may change a mask in place there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_COPIES = WeakTensorKeyDictionary()  # of a tensor on a device: its values in host memory, and the versions of both


def on_host(values: Tensor) -> Tensor:
    """The values in host memory: a tensor that lies there as it is, the copy that is known of another, or a new copy.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> on_host(mask) is mask
        True
    """
    if values.device.type == "cpu":
        return values
    known = known_copy(values)
    return keep(values, values.cpu()) if known is None else known


def known_copy(values: Tensor) -> Tensor | None:
    """What is known in host memory of a tensor, without a look at the device; None where nothing is."""
    if values.device.type == "cpu":
        return values
    if torch.compiler.is_compiling():
        return None
    if values not in _COPIES:
        return None
    copy, *versions = _COPIES[values]
    return copy if versions == [_version(values), _version(copy)] else None  # one of them has changed since


def keep(values: Tensor, copy: Tensor) -> Tensor:
    """Remember the copy in host memory of a tensor on a device; returns the copy."""
    if values.device.type != "cpu" and not torch.compiler.is_compiling():
        _COPIES[values] = copy, _version(values), _version(copy)
    return copy


def followed(function: Callable[..., Tensor], *masks: Tensor) -> Tensor:
    """What a function makes of tensors; where copies of all of them are known, that of the result is known as well.

    For small tensors such as masks, since the function is called on the copies too.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> followed(torch.logical_not, mask)
        tensor([[False,  True]])
    """
    made = function(*masks)
    if made.device.type != "cpu" and not torch.compiler.is_compiling():
        copies = [known_copy(mask) for mask in masks]
        if all(copy is not None for copy in copies):
            keep(made, function(*copies))
    return made


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device, which is not waited for; they keep their copy in host memory."""
    if device.type == "cpu" or values.device == device:
        return values.to(device)
    moved = values.to(device, non_blocking=device.type != "mps")  # where the host's memory may be used again too early
    if values.device.type == "cpu":
        keep(moved, values)
    return moved


def real_places(mask: Tensor) -> Tensor:
    """(K,) int64 on the device of a mask: places of what is real in it, counted row after row.

    Example:
        >>> real_places(torch.tensor([[True, False], [True, True]])).tolist()
        [0, 2, 3]
    """
    return sent(on_host(mask).flatten().nonzero()[:, 0], mask.device)


def _version(values: Tensor) -> int | None:
    return None if values.is_inference() else values._version
