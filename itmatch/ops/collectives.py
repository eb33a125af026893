"""Talking between processes: the only place that imports ``torch.distributed``. On one process nothing happens."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from itmatch.ops.derivatives import first_derivative_only

_reduce_scatter: Any = next(  # its name since torch 2.13, and before
    (getattr(dist, name) for name in ("reduce_scatter_single", "reduce_scatter_tensor") if hasattr(dist, name)), None
)
_PIECE_BYTES = 1 << 26  # that are received at a time, of all processes together
_own_groups: Any = weakref.WeakKeyDictionary()  # of the default group: one of the same processes beside it


def is_distributed() -> bool:
    """Whether there is more than one process to talk to.

    Example:
        >>> is_distributed()
        False
    """
    return world_size() > 1


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def leave_processes() -> None:
    """Leave the other processes, where there are some, as the last thing of a program that went well.

    The threads that talk to them end here; one of them living on while Python ends can abort the process.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def is_connection_error(error: BaseException) -> bool:
    """Whether talking to another process failed, as it does when that process has ended."""
    text = str(error)
    if not isinstance(error, RuntimeError) or "EADDRINUSE" in text:  # a port that is taken is no fault of the others
        return False
    known = isinstance(error, dist.DistError) if dist.is_available() else False
    return known or any(sign in text for sign in ("gloo", "Connection closed by peer", "Connection reset", "NCCL"))


def gather_values(value: Any) -> list[Any]:
    """Plain values of all processes, in the order of the processes.

    Example:
        >>> gather_values("a")
        ['a']
    """
    gathered = [value] * world_size()
    if is_distributed():
        dist.all_gather_object(gathered, value, group=_group())
    return gathered


def all_gather_ragged(tensor: Tensor, dim: int = 0) -> Tensor:
    """Tensors of all processes one after the other, in the order of the processes; the gradient passes.

    Every process has to call it, and where there is a gradient, to go backward through it. The gradient of a process's
    tensor is the *sum* of what all processes have for it. So if each computes the same loss from what was gathered, the
    mean over processes that DistributedDataParallel and FSDP take of the parameters' gradients is the gradient of that
    loss: what one process with all the data would have. On one process the argument is returned.

    Args:
        tensor: same number of dimensions, dtype and sizes on every process, except along ``dim``, where the size may
            differ and may be 0.
        dim: dimension along which the tensors are joined.

    Raises:
        ValueError: the tensors of two processes do not fit. Raised on every process, so none is left waiting.

    Example:
        >>> all_gather_ragged(torch.tensor([1, 2, 3]))
        tensor([1, 2, 3])
    """
    if tensor.ndim == 0:
        raise ValueError("all_gather_ragged: a tensor without dimensions; give it one, such as tensor[None]")
    if not is_distributed():
        return tensor
    rows = tensor.movedim(dim, 0)  # (L, ...)
    lengths = _gather_lengths(rows, dim)
    joined: Tensor = _Gather.apply(rows, lengths)  # type: ignore[no-untyped-call]
    return joined.movedim(0, dim)


class _Gather(torch.autograd.Function):
    """(L, ...) -> (sum of lengths, ...)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, lengths: list[int]) -> Tensor:
        ctx.lengths = lengths
        joined = rows.new_empty(sum(lengths), *rows.shape[1:])
        ctx.mark_non_differentiable(*([] if rows.is_floating_point() else [joined]))
        size = math.prod(rows.shape[1:])
        width = size * rows.element_size()
        if joined.numel() == 0:
            return joined
        # As bytes, because the backends do not gather every dtype (gloo refuses some), and bytes are all that moves.
        # A single row or column counts as contiguous whatever its strides, and only a stride of 1 can be seen as bytes.
        own = rows.contiguous().as_strided((len(rows), size), (size, 1)).view(torch.uint8)
        target = joined.view(len(joined), size).view(torch.uint8)
        step = max(1, _PIECE_BYTES // (width * len(lengths)))  # in pieces, so that little is held beside the result
        starts = [sum(lengths[:process]) for process in range(len(lengths))]
        for first in range(0, max(lengths), step):
            piece = own.new_zeros(min(step, max(lengths) - first), width)
            here = own[first : first + step]
            piece[: len(here)] = here
            received = [torch.empty_like(piece) for _ in lengths]
            dist.all_gather(received, piece, group=_group())
            for start, length, part in zip(starts, lengths, received, strict=True):
                stop = min(length, first + step)
                if stop > first:
                    target[start + first : start + stop] = part[: stop - first]
        return joined

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        lengths, own = ctx.lengths, ctx.lengths[rank()]
        if grad.numel() == 0:
            return grad.new_zeros(own, *grad.shape[1:]), None
        wide = torch.promote_types(grad.dtype, torch.float32)  # sums of halves would lose bits
        longest = max(lengths)
        sent = grad.new_zeros(len(lengths) * longest, *grad.shape[1:], dtype=wide)
        for process, values in enumerate(torch.split(grad, lengths)):
            sent[process * longest : process * longest + len(values)] = values
        received = torch.empty_like(sent[:longest])
        _reduce_scatter(received, sent, group=_group())
        return received[:own].to(grad.dtype), None


def _group() -> Any:
    """Of our own, since the order of our calls and those of DistributedDataParallel may differ between processes."""
    world = dist.group.WORLD
    if world not in _own_groups:  # held weakly, so that destroy_process_group ends its threads before Python ends
        _own_groups[world] = weakref.ref(dist.new_group())
    return _own_groups[world]()


@torch.no_grad()
def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of the tensors of all processes, which are of one shape; no gradient passes.

    Example:
        >>> all_reduce_sum(torch.tensor([1, 2]))
        tensor([1, 2])
    """
    if not is_distributed():
        return tensor
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=_group())
    return total


def _gather_lengths(rows: Tensor, dim: int) -> list[int]:
    own = (len(rows), str(rows.dtype), tuple(rows.shape[1:]), dim)
    gathered: list[tuple[int, str, tuple[int, ...], int]] = gather_values(own)
    for process, other in enumerate(gathered):
        if other[1:] != gathered[0][1:]:
            raise ValueError(
                f"all_gather_ragged(dim={dim}): process {process} has {other[1]} with other sizes {other[2]}, "
                f"process 0 has {gathered[0][1]} with {gathered[0][2]}"
            )
    return [length for length, *_ in gathered]
