"""The last steps that all encoders share."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments, SceneGraph
from itmatch.nn.pooling import Pooling
from itmatch.nn.relations.base import Related, Relation
from itmatch.ops.masking import l2_normalize


class RelationList(nn.ModuleList):
    """Relations, applied one after the other."""

    def __init__(self, relations: Iterable[Relation] | None) -> None:
        super().__init__(relations)

    def forward(
        self, features: Tensor, mask: Tensor, boxes: Tensor | None, graph: SceneGraph | None
    ) -> Tensor | Related:
        """Fragments (N, L, D) -> (N, L, D), with the fragments of relations where one of the relations makes some."""
        made: list[Related] = []
        for relation in self:
            found = relation(features, mask, boxes, graph)
            if isinstance(found, Related):
                made.append(found)
            features = found.features if isinstance(found, Related) else found
        if not made:
            return features
        nodes, nodes_mask = [m.nodes for m in made], [m.nodes_mask for m in made]
        return Related(features, torch.cat(nodes, 1), torch.cat(nodes_mask, 1))


def to_fragments(encoded: Tensor | Related, mask: Tensor, *, normalize: bool, pooling: Pooling | None) -> Fragments:
    """Zero the padded places, pool what stands before normalisation, L2-normalise; fragments of relations come last."""
    features = encoded.features if isinstance(encoded, Related) else encoded
    features = features.masked_fill(~mask[..., None], 0.0)  # (N, L, D)
    pooled = None if pooling is None else pooling(features, mask[..., None], dim=1)  # (N, D)
    is_relation = None
    if isinstance(encoded, Related):
        is_relation = torch.cat((torch.zeros_like(mask), torch.ones_like(encoded.nodes_mask)), 1)
        features, mask = torch.cat((features, encoded.nodes), 1), torch.cat((mask, encoded.nodes_mask), 1)
    if normalize:
        features = l2_normalize(features)
        pooled = None if pooled is None else l2_normalize(pooled)
    return Fragments(features, mask, pooled, is_relation)
