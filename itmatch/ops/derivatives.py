"""Backward passes that have no derivative of their own, and whether there is one to come."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def first_derivative_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass that raises where a second derivative is prepared (``create_graph=True``).

    torch's ``once_differentiable`` raises later, and not at all where :func:`torch.autograd.grad` goes past it: the
    derivative is then returned without this part.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("second derivatives (create_graph=True) are not implemented")
        return once(ctx, *grads)

    return checked


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether what is made of some tensors now will have a gradient."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
