"""One number per training caption that outlives the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PairMemory(nn.Module):
    """A number per training caption, by its place in the dataset; it grows as places come up.

    The numbers are part of the state: a resumed run goes on with those of the run before.

    Args:
        start: the number of a caption that was never written.

    Example:
        >>> memory = PairMemory(1.0)
        >>> memory.write(torch.tensor([2]), torch.tensor([0.5]))
        >>> memory.read(torch.tensor([0, 2, 9])).tolist()
        [1.0, 0.5, 1.0]
    """

    values: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.register_buffer("values", torch.full((0,), start))

    def read(self, places: Tensor) -> Tensor:
        """The numbers (T,) of places (T,)."""
        self._reach(places)
        return self.values[places]

    def write(self, places: Tensor, numbers: Tensor) -> None:
        """Set the numbers of some places."""
        self._reach(places)
        self.values[places] = numbers.detach().to(self.values.dtype)

    def _reach(self, places: Tensor) -> None:
        longest = int(places.max()) + 1 if len(places) else 0
        if longest > len(self.values):
            more = self.values.new_full((max(longest, 2 * len(self.values)) - len(self.values),), self.start)
            self.values = torch.cat((self.values, more))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}values")
        if isinstance(saved, Tensor) and saved.ndim == 1:
            self.values = self.values.new_full(saved.shape, self.start)
        super()._load_from_state_dict(state_dict, prefix, *args)
