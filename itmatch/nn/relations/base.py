"""The base class of the blocks that relate the fragments of one image or caption."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from itmatch.batch import SceneGraph
from itmatch.nn.block import Block
from itmatch.ops.checks import check_whole
from itmatch.ops.pairs.sides import real_or_all


@dataclass(frozen=True, eq=False)
class Related:
    """The fragments that a relation was given, updated, and one more for each relation between them.

    Args:
        features: (N, L, D) the fragments that it was given, updated; 0 in padded positions.
        nodes: (N, Q, D) one fragment per relation; 0 in padded positions.
        nodes_mask: (N, Q) bool; a row may be without relations.
    """

    features: Tensor
    nodes: Tensor
    nodes_mask: Tensor


class Relation(Block):
    """Base class: lets the regions of an image, or the words of a caption, take from each other.

    An encoder applies its relations one after the other. To write your own, subclass this and implement
    :meth:`forward`; what lies in padded positions, NaN perhaps, must not be read (``self.prepared`` replaces it).

    Shape:
        - features: (N, L, D) float
        - mask: (N, L) bool, True = real; None = all are real
        - boxes: (N, L, 4) x1 y1 x2 y2 as fractions of width and height, or None
        - graph: relations between the fragments, or None
        - output: (N, L, D), 0 in padded positions; or :class:`Related`, which has fragments for the relations too

    Example:
        >>> class Mean(Relation):
        ...     def forward(self, features, mask=None, boxes=None, graph=None):
        ...         features, mask = self.prepared(features, mask)
        ...         mean = features.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        ...         return self.zero_padding(features + mean, mask)
    """

    @abstractmethod
    def forward(
        self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Tensor | Related:
        """The fragments, with what they take from the others."""

    @staticmethod
    def zero_padding(features: Tensor, mask: Tensor) -> Tensor:
        """(N, L, D) with 0 in padded positions."""
        return features.masked_fill(~mask[..., None], 0)

    def prepared(
        self, features: Tensor, mask: Tensor | None = None, embed_dim: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The fragments (N, L, D) with 0 in padded positions, and their mask (N, L).

        Args:
            features: (N, L, D).
            mask: (N, L) bool; None = all are real.
            embed_dim: the size that they must have; None = any.

        Raises:
            ValueError: fragments of another size.
        """
        if embed_dim not in (None, features.shape[-1]):
            name = type(self).__name__
            raise ValueError(f"{name}: fragments of size {features.shape[-1]}, expected its embed_dim {embed_dim}")
        mask = real_or_all(mask, features)
        return self.zero_padding(features, mask), mask


def check_heads(name: str, embed_dim: int, num_heads: int) -> int:
    """The number of heads itself, if it divides the embedding size."""
    if check_whole(f"{name}.embed_dim", embed_dim) % check_whole(f"{name}.num_heads", num_heads):
        raise ValueError(f"{name}: embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
    return num_heads
