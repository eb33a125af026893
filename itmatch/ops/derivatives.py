"""Backward passes that have no derivative of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
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
