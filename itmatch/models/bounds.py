"""Building a model from a file within the size of its weights."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

_SLACK = 4  # a tower of CLIP builds both towers, a transformer a pooler that is then left out
_NUMBERS, _PARAMETERS, _MODULES = 1 << 24, 1000, 2000  # what a model of any size may have besides
_MODULES_PER_WEIGHT = 10


@contextmanager
def bounded_by(sizes: Sequence[int], where: str) -> Iterator[None]:
    """Refuse to build more inside than some weights can fill, so that a file's settings do not decide what it costs.

    A model may have a few times as many numbers, parameters and modules as the file has weights for, and some more:
    this bounds what a file can cost and is no check that it fits.

    Args:
        sizes: the number of elements of each weight of the file.
        where: the file, for error messages.

    Raises:
        ValueError: before a tensor is allocated that is larger than all weights could need, and before there are more
            parameters or modules than they could need.
    """
    limits = _Limits(where, sizes)
    hooks = [
        register_module_parameter_registration_hook(limits.count_parameter),
        register_module_module_registration_hook(limits.count_module),
    ]
    try:
        with _BoundedSizes(limits):
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _Limits:
    """What is left; the hooks are global, so only the thread that builds is counted."""

    def __init__(self, where: str, sizes: Sequence[int]) -> None:
        self.where, self.held = where, sum(sizes)
        self.numbers = self.largest = _SLACK * self.held + _NUMBERS
        self.parameters = _SLACK * len(sizes) + _PARAMETERS
        self.modules = _MODULES_PER_WEIGHT * len(sizes) + _MODULES
        self.thread = threading.get_ident()
        self.seen: dict[int, Tensor] = {}  # kept alive, so that no other object gets the id of one

    def count_parameter(self, _module: nn.Module, _name: str, parameter: Any) -> None:
        if parameter is None or threading.get_ident() != self.thread or id(parameter) in self.seen:
            return
        self.seen[id(parameter)] = parameter
        self.numbers -= parameter.numel()
        self.parameters -= 1
        if self.numbers < 0 or self.parameters < 0:
            raise self.error("more parameters")

    def count_module(self, _module: nn.Module, _name: str, _submodule: Any) -> None:
        if threading.get_ident() == self.thread:
            self.modules -= 1
            if self.modules < 0:
                raise self.error("more modules")

    def check(self, numel: float) -> None:
        if numel > self.largest:
            raise self.error(f"a tensor of {numel:.3g} numbers")

    def error(self, what: str) -> ValueError:
        return ValueError(f"{self.where}: its settings ask for {what}, its weights hold {self.held} numbers")


class _BoundedSizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at the sizes that operators are asked for, before they allocate."""

    def __init__(self, limits: _Limits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limits = limits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.arange:
            self.limits.check(_arange_length(*args[:3]))
        elif func.overloadpacket is torch.ops.aten.linspace:
            self.limits.check(kwargs.get("steps", 0) if kwargs and len(args) < 3 else args[2])
        elif func.overloadpacket is torch.ops.aten.eye:
            self.limits.check(math.prod(args) if len(args) > 1 else args[0] ** 2)
        elif not any(isinstance(arg, Tensor) for arg in args[:1]) or "new_" in func.name():
            for arg in args:
                if isinstance(arg, (list, tuple)) and arg and all(isinstance(size, int) for size in arg):
                    self.limits.check(math.prod(arg))
        return func(*args, **(kwargs or {}))


def _arange_length(first: float, end: float | None = None, step: float = 1) -> float:
    start, end = (0, first) if end is None else (first, end)
    return (end - start) / (step or 1)
