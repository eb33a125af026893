"""What every relation is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from itmatch.batch import SceneGraph
from itmatch.nn.block import Block
from itmatch.ops.checks import check_whole


@dataclass(frozen=True, eq=False)
class Related:
    """What a relation returns that makes fragments of its own, one a relation, beside the ones it was given.

    Args:
        features: (N, L, D) the fragments that it was given, updated; 0 in padded places.
        nodes: (N, Q, D) a fragment a relation; 0 in padded places.
        nodes_mask: (N, Q) bool; a row may be without relations.
    """

    features: Tensor
    nodes: Tensor
    nodes_mask: Tensor


class Relation(Block):
    """Lets the fragments of a row (the regions of an image, the words of a caption) learn from each other.

    An encoder applies its relations one after the other. To write your own, subclass this and implement
    :meth:`forward`; what lies in padded places, NaN perhaps, must not be read (``self.zero_padding`` replaces it).

    Shape:
        - features: (N, L, D) float
        - mask: (N, L) bool, True = real
        - boxes: (N, L, 4) x1 y1 x2 y2 as fractions of width and height, or None
        - graph: relations between the fragments, or None
        - output: (N, L, D), 0 in padded places; or :class:`Related`, which has fragments for the relations too

    Example:
        >>> class Mean(Relation):
        ...     def forward(self, features, mask, boxes=None, graph=None):
        ...         features = self.zero_padding(features, mask)
        ...         mean = features.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        ...         return self.zero_padding(features + mean, mask)
    """

    @abstractmethod
    def forward(
        self, features: Tensor, mask: Tensor, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Tensor | Related:
        """The fragments, with what they take from the others."""

    @staticmethod
    def zero_padding(features: Tensor, mask: Tensor) -> Tensor:
        """(N, L, D) with 0 in padded places."""
        return features.masked_fill(~mask[..., None], 0)

    def check_size(self, features: Tensor, embed_dim: int) -> None:
        """Raise unless the fragments have the size that the layers were made for."""
        if features.shape[-1] != embed_dim:
            name = type(self).__name__
            raise ValueError(f"{name}: fragments of size {features.shape[-1]}, expected its embed_dim {embed_dim}")


def check_heads(name: str, embed_dim: int, num_heads: int) -> int:
    """The number of heads itself, if it divides the embedding size."""
    if check_whole(f"{name}.embed_dim", embed_dim) % check_whole(f"{name}.num_heads", num_heads):
        raise ValueError(f"{name}: embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
    return num_heads
