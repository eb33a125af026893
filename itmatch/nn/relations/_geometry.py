"""What is learned from how two boxes lie to each other."""

from __future__ import annotations

from torch import Tensor, nn

from itmatch.ops.geometry import GEOMETRY_SIZE

_HIDDEN = 64


class GeometryPerceptron(nn.Module):
    """One number per head from the geometry of an edge, (..., 8) -> (..., heads), by one hidden layer."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(GEOMETRY_SIZE, _HIDDEN)
        self.output = nn.Linear(_HIDDEN, num_heads)

    def forward(self, geometry: Tensor) -> Tensor:
        """Computed in the type of the weights."""
        result: Tensor = self.output(self.hidden(geometry.to(self.hidden.weight.dtype)).relu())
        return result
