"""A property that is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


__all__ = ["cached_property"]
