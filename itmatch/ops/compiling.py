"""What code needs that torch.compile and torch.export shall follow, or shall not."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import torch
from torch import Tensor

_P = ParamSpec("_P")

if TYPE_CHECKING:
    from functools import cached_property
else:

    class cached_property:
        """That of functools, without the lock that it takes before Python 3.12: torch.compile cannot follow a lock."""

        def __init__(self, function: Any) -> None:
            self.function, self.name, self.__doc__ = function, function.__name__, function.__doc__

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            value = self.function(instance)
            object.__setattr__(instance, self.name, value)  # found before this descriptor from now on
            return value


def left_out_of_graphs(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """For a function whose work is cut by values: torch.compile leaves it as it is, and breaks its graph there."""
    disabled: list[Callable[_P, Tensor]] = []

    @wraps(function)
    def chosen(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        if not torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if not disabled:  # not earlier, since this imports the compiler
            disabled.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return disabled[0](*args, **kwargs)

    return chosen


__all__ = ["cached_property", "left_out_of_graphs"]
