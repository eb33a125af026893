"""Lengths of vectors, and cosines, where vectors of length 0 have a score and a gradient of 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import threshold

from itmatch.ops.derivatives import first_derivative_only, wants_gradient

SMALLEST = 1e-8  # of the product of two lengths in a cosine
_TINY = 1e-30  # of a squared length; below it a vector counts as zero


def squared_lengths(features: Tensor) -> Tensor:
    """(..., D) -> (...)."""
    if not wants_gradient(features):
        return features.square().sum(-1)
    found: Tensor = _SquaredLengths.apply(features)  # type: ignore[no-untyped-call]
    return found


def root(square: Tensor) -> Tensor:
    """Length from a squared length, whose rounding may have made it negative; its gradient at 0 is 0."""
    return square.clamp(min=_TINY).sqrt()


def directed(square: Tensor) -> Tensor:
    """1 where a squared length is that of a vector with a direction, 0 where it is that of a zero vector.

    What is divided by the length of a vector is multiplied by this: it is then 0 for a zero vector, with a gradient of
    0. Without it the gradient there would be that of the division by a small constant, 1e8 times too large in float32,
    and infinite in float16, from where it makes the gradients of all others NaN.
    """
    square = square.detach() if square.requires_grad else square
    return threshold(square, _TINY, 0).sign()  # on a CPU far faster than a comparison and a choice


def cosine(product: Tensor, square: Tensor, other: Tensor, total: Tensor | None = None) -> Tensor:
    """From an inner product and two squared lengths; 0 if a length is 0, and never beyond 1 by rounding.

    Where attended fragments cancel, their sum is smaller than the rounding of its squared length. With ``total``,
    above 0, the vector of ``other`` is still to be divided by it.
    """
    lengths = (root(square) * root(other)).clamp(min=SMALLEST if total is None else SMALLEST * total)
    return (product / lengths).clamp(-1, 1) * directed(torch.minimum(square, other))


class _SquaredLengths(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return features.square().sum(-1)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        features: Tensor = ctx.saved_tensors[0]
        return features * (2 * grad)[..., None]
