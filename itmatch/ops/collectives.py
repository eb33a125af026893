"""Talking between processes: the only place that imports ``torch.distributed``. On one process nothing happens."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


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


@torch.no_grad()
def all_gather_ragged(tensor: Tensor, dim: int = 0) -> Tensor:
    """Tensors of all processes one after the other, in the order of the processes; no gradient passes.

    Every process has to call it. On one process it returns its argument, cut from the autograd graph.

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
    tensor = tensor.detach()
    if tensor.ndim == 0:
        raise ValueError("all_gather_ragged: a tensor without dimensions; give it one, such as tensor[None]")
    if not is_distributed():
        return tensor
    rows = tensor.movedim(dim, 0).contiguous()  # (L, ...)
    lengths = _gather_lengths(rows, dim)
    width = rows[:1].new_empty((1, *rows.shape[1:])).numel() * rows.element_size()
    if max(lengths) == 0 or width == 0:
        return rows.new_empty((sum(lengths), *rows.shape[1:])).movedim(0, dim)

    # As bytes, because the backends do not gather every dtype (gloo refuses some), and bytes are all there is to move.
    sent = torch.zeros(max(lengths), width, dtype=torch.uint8, device=rows.device)
    if len(rows):
        sent[: len(rows)] = rows.reshape(len(rows), -1).view(torch.uint8)
    received = [torch.empty_like(sent) for _ in lengths]
    dist.all_gather(received, sent)
    joined = torch.cat([part[:length] for part, length in zip(received, lengths, strict=True)])
    return joined.view(rows.dtype).reshape(sum(lengths), *rows.shape[1:]).movedim(0, dim)


def _gather_lengths(rows: Tensor, dim: int) -> list[int]:
    own = (len(rows), str(rows.dtype), tuple(rows.shape[1:]), dim)
    gathered: list[tuple[int, str, tuple[int, ...], int]] = [own] * world_size()
    dist.all_gather_object(gathered, own)
    for process, other in enumerate(gathered):
        if other[1:] != gathered[0][1:]:
            raise ValueError(
                f"all_gather_ragged(dim={dim}): process {process} has {other[1]} with other sizes {other[2]}, "
                f"process 0 has {gathered[0][1]} with {gathered[0][2]}"
            )
    return [length for length, *_ in gathered]
