"""Linear layers as the published code of this family starts them."""

from __future__ import annotations

from torch import nn


def xavier_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with Xavier-uniform weight and zero bias, as the published code starts it."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
