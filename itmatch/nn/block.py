"""The base class of the modules that a model is put together from."""

from __future__ import annotations

from torch import nn

from itmatch.spec import Configurable


class Block(Configurable, nn.Module):
    """An ``nn.Module`` that remembers the arguments it was built with.

    Encoders, poolings and similarities are Blocks, so that a checkpoint can rebuild them from plain data
    (:func:`itmatch.spec.build`). A subclass needs nothing beyond an ordinary ``__init__`` whose arguments are plain
    values or Blocks, and a ``forward``.

    Example:
        >>> from torch import Tensor
        >>> class Scale(Block):
        ...     def __init__(self, factor: float = 2.0) -> None:
        ...         super().__init__()
        ...         self.factor = factor
        ...
        ...     def forward(self, values: Tensor) -> Tensor:
        ...         return values * self.factor
        >>> Scale(3.0).spec["init_args"]
        {'factor': 3.0}
    """
