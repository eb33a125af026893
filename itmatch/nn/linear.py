"""Linear layers as the published code of this family starts them, and the perceptron beside a projection."""

from __future__ import annotations

from torch import Tensor, nn

from itmatch.hostcopies import real_places


def xavier_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with Xavier-uniform weight and zero bias, as the published code starts it."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Perceptron(nn.Sequential):
    """One hidden layer of half the size, with batch normalisation, as VSE-infinity adds it to a projection."""

    def __init__(self, in_features: int, out_features: int) -> None:
        hidden = out_features // 2
        layers = nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out_features)
        super().__init__(*layers)

    def added_to(self, projected: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """(N, L, D) a projection with the perceptron's output of real features (N, L, F): padding has no statistics."""
        places = real_places(mask)
        added = self(features.flatten(0, 1).index_select(0, places))
        return projected.flatten(0, 1).index_add(0, places, added.to(projected.dtype)).view(projected.shape)
