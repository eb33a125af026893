"""The last steps that all encoders share."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from itmatch.batch import Fragments, SceneGraph
from itmatch.nn.pooling import Pooling
from itmatch.nn.relations.base import Relation
from itmatch.ops.masking import l2_normalize


def xavier_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer as the published code starts it: Xavier-uniform weight, zero bias."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class RelationList(nn.ModuleList):
    """Relations, applied one after the other."""

    def __init__(self, relations: Iterable[Relation] | None) -> None:
        super().__init__(relations)

    def forward(self, features: Tensor, mask: Tensor, boxes: Tensor | None, graph: SceneGraph | None) -> Tensor:
        """(N, L, D) -> (N, L, D)."""
        for relation in self:
            features = relation(features, mask, boxes, graph)
        return features


def to_fragments(features: Tensor, mask: Tensor, *, normalize: bool, pooling: Pooling | None) -> Fragments:
    """Zero the padded places, pool what stands before normalisation, L2-normalise both."""
    features = features.masked_fill(~mask[..., None], 0.0)  # (N, L, D)
    pooled = None if pooling is None else pooling(features, mask[..., None], dim=1)  # (N, D)
    if normalize:
        features = l2_normalize(features)
        pooled = None if pooled is None else l2_normalize(pooled)
    return Fragments(features, mask, pooled)
