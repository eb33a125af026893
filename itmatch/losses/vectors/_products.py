"""Inner products and distances of vectors in full precision, also under autocast."""

from __future__ import annotations

import torch
from torch import Tensor


def inner_products(first: Tensor, second: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N), in the dtype of the vectors."""
    with torch.autocast(first.device.type, enabled=False):  # it would make the product in half precision
        return first @ second.T


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N); never below 0. No (M, N, D) is held."""
    lengths = first.square().sum(1)[:, None] + second.square().sum(1)
    return (lengths - 2 * inner_products(first, second)).clamp(min=0)


def exact_distances(first: Tensor, second: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N), by differences, since products round small distances; at 0 the gradient is 0."""
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        return torch.cdist(first.to(dtype), second.to(dtype), compute_mode="donot_use_mm_for_euclid_dist")


def square_root(squares: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    zero = squares <= torch.finfo(squares.dtype).tiny
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
