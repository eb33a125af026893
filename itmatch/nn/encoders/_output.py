"""Steps that all encoders share: relations, the last steps, and batches of no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor, nn

from itmatch.batch import Captions, Fragments, Regions, SceneGraph
from itmatch.hostcopies import followed
from itmatch.nn.block import Block
from itmatch.nn.pooling import Pooling
from itmatch.nn.relations.base import Related, Relation
from itmatch.ops.masking import l2_normalize

_Encoder = TypeVar("_Encoder", bound=Block)
_Data = TypeVar("_Data", Regions, Captions)


def takes_no_rows(forward: Callable[[_Encoder, _Data], Fragments]) -> Callable[[_Encoder, _Data], Fragments]:
    """Decorator: the ``forward`` of an encoder that takes batches without any image or caption too.

    Many layers (attention, recurrent networks, whole transformers) do not take a batch of no rows. A stand-in goes
    through them, in evaluation mode, and is dropped; so every parameter still has a gradient, of 0.
    """

    @wraps(forward)
    def checked(encoder: _Encoder, data: _Data) -> Fragments:
        if len(data):
            return forward(encoder, data)
        modes = [(module, module.training) for module in encoder.modules()]
        encoder.eval()  # the stand-in must not enter the statistics of a batch normalisation
        try:
            return forward(encoder, _stand_in(data, getattr(encoder, "num_patches", 1)))[:0]
        finally:
            for module, training in modes:
                module.training = training

    return checked


def _stand_in(data: _Data, least: int) -> _Data:
    """One row of zeros, all of them real, of at least ``least`` fragments."""

    def row(value: Tensor) -> Tensor:
        return value.new_zeros(1, max(least, value.shape[1]), *value.shape[2:])

    graph = None if data.graph is None else replace(data.graph, num_rows=1)  # it has no edges
    filled = replace(data, graph=None)._map(row)
    return replace(filled, mask=torch.ones_like(filled.mask), graph=graph)


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
        return Related(features, torch.cat(nodes, 1), followed(_side_by_side, *nodes_mask))


def to_fragments(encoded: Tensor | Related, mask: Tensor, *, normalize: bool, pooling: Pooling | None) -> Fragments:
    """Zero the padding, pool what stands before normalisation, L2-normalise; fragments of relations come last."""
    features = encoded.features if isinstance(encoded, Related) else encoded
    features = features.masked_fill(~mask[..., None], 0.0)  # (N, L, D)
    pooled = None if pooling is None else pooling(features, followed(_of_fragments, mask), dim=1)  # (N, D)
    is_relation = None
    if isinstance(encoded, Related):
        features = torch.cat((features, encoded.nodes), 1)
        is_relation = followed(_which_are_nodes, mask, encoded.nodes_mask)
        mask = followed(_side_by_side, mask, encoded.nodes_mask)
    if normalize:
        features = l2_normalize(features)
        pooled = None if pooled is None else l2_normalize(pooled)
    return Fragments(features, mask, pooled, is_relation)


def _side_by_side(*masks: Tensor) -> Tensor:
    return torch.cat(masks, 1)


def _which_are_nodes(mask: Tensor, nodes_mask: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(mask), torch.ones_like(nodes_mask)), 1)


def _of_fragments(mask: Tensor) -> Tensor:
    return mask[..., None]
