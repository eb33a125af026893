"""The image encoders that look at a photo several times."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itmatch.batch import Fragments, Regions
from itmatch.nn.encoders._output import takes_no_rows
from itmatch.nn.encoders.base import ImageEncoder
from itmatch.nn.pooling import GeneralizedPooling, Pooling
from itmatch.ops.checks import check_kind, check_share, check_whole
from itmatch.ops.masking import l2_normalize


class ViewEncoder(ImageEncoder):
    r"""AVSE: several views of an image, each one vector of the patches around a place; for :class:`BlockSimilarity`.

    A view has a patch as its centre and reads the patches nearest to it. In training the centres are random. In
    evaluation they stand on the diagonal, in equal steps, so that an image has the same vectors each time.

    Args:
        encoder: encodes the patches, with ``normalize=False`` as published.
        num_views: V.
        kept: share of the patches, and the class token, that a view reads in training.
        kept_in_evaluation: the same in evaluation.
        class_token: the first fragment of an image stands for the whole; every view reads it.
        pooling: from the patches of a view to its vector; by default :class:`~itmatch.nn.GeneralizedPooling`.

    Shape:
        ``Regions``, of which the encoder makes fragments (I, R, D): the class token and then the patches of a square,
        row by row -> ``Fragments`` with features (I, V, D), of length 1

    Source:
        Liu et al., "Asymmetric Visual Semantic Embedding Framework for Efficient Vision-Language Alignment", AAAI
        2025 (AVSE), and its public code, with whose heads the vectors agree to 1e-5.

    Deviation:
        The public code chooses the patches before a ViT, which then reads each view; here the patches of a view are
        chosen among encoded ones. Its centres are random in evaluation too. Patches equally far from the centre are
        taken row by row, in the public code by rounding.

    Example:
        >>> from itmatch.nn import RegionEncoder
        >>> encoder = ViewEncoder(RegionEncoder(16, 8, normalize=False))
        >>> encoder(Regions(torch.randn(2, 10, 16))).features.shape
        torch.Size([2, 2, 8])
    """

    offset = None  # a view stands for many patches

    def __init__(
        self,
        encoder: ImageEncoder,
        num_views: int = 2,
        *,
        kept: float = 0.8,
        kept_in_evaluation: float = 0.9,
        class_token: bool = True,
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__()
        self.encoder: ImageEncoder = check_kind("encoder", encoder, ImageEncoder)
        self.num_views = check_whole("num_views", num_views)
        self.kept = check_share("kept", kept)
        self.kept_in_evaluation = check_share("kept_in_evaluation", kept_in_evaluation)
        self.class_token = class_token
        self.pooling = GeneralizedPooling() if pooling is None else check_kind("pooling", pooling, Pooling)

    @property
    def embed_dim(self) -> int:  # type: ignore[override]
        """D, that of the encoder."""
        return self.encoder.embed_dim

    @property
    def in_features(self) -> int | None:
        """F, where the encoder says it."""
        return getattr(self.encoder, "in_features", None)

    @property
    def num_patches(self) -> int:
        """The least number of regions that the encoder takes."""
        return int(getattr(self.encoder, "num_patches", 1))

    @takes_no_rows
    def forward(self, regions: Regions) -> Fragments:
        """Encode the patches of a batch of images."""
        patches = self.encoder(regions)
        encoded, mask = patches.features, patches.mask  # (I, R, D), (I, R)
        views = self.views(mask) & mask[:, None]  # (I, V, R)
        vectors = [self.pooling(encoded, view[..., None], dim=1) for view in views.unbind(1)]
        return Fragments(l2_normalize(torch.stack(vectors, 1)), views.any(2))

    def views(self, mask: Tensor) -> Tensor:
        """Bool (I, V, R): which fragments belong to which view; override it for views of another kind."""
        first, side = int(self.class_token), math.isqrt(mask.shape[1] - int(self.class_token))
        if side * side + first != mask.shape[1] or not side:
            wanted = f"{'a class token and ' * first}patches of a square"
            raise ValueError(f"{type(self).__name__}: {mask.shape[1]} fragments, expected {wanted}")
        if self.training:
            centres = torch.randint(side * side, (mask.shape[0], self.num_views), device=mask.device)
        else:
            steps = (torch.arange(1, self.num_views + 1, device=mask.device) * side) // (self.num_views + 1)
            centres = (steps * (side + 1)).expand(mask.shape[0], -1)
        count = int((side * side + 1) * (self.kept if self.training else self.kept_in_evaluation))
        chosen = nearest_patches(side, centres, max(1, count))
        return torch.cat((chosen.new_ones(*centres.shape, first), chosen), 2)


class RegionViewEncoder(ViewEncoder):
    """Views of the regions of a detector: in training a random share of them, in evaluation all but a few.

    In evaluation the regions that a view leaves out stand in equal steps, other ones in each view, so that an image has
    the same vectors each time. How views of regions are chosen is our choice: the paper's own code has views of patches
    alone, :class:`ViewEncoder`.

    Args:
        encoder: encodes the regions, with ``normalize=False``.
        num_views: V.
        kept: share of the regions that a view reads in training.
        kept_in_evaluation: the same in evaluation.
        pooling: from the regions of a view to its vector; by default :class:`~itmatch.nn.GeneralizedPooling`.

    Shape:
        ``Regions``, of which the encoder makes fragments (I, R, D) -> ``Fragments`` with features (I, V, D)

    Example:
        >>> from itmatch.nn import RegionEncoder
        >>> encoder = RegionViewEncoder(RegionEncoder(16, 8, normalize=False))
        >>> encoder(Regions(torch.randn(2, 5, 16))).features.shape
        torch.Size([2, 2, 8])
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        num_views: int = 2,
        *,
        kept: float = 0.8,
        kept_in_evaluation: float = 0.9,
        pooling: Pooling | None = None,
    ) -> None:
        shares = {"kept": kept, "kept_in_evaluation": kept_in_evaluation}
        super().__init__(encoder, num_views, **shares, class_token=False, pooling=pooling)

    def views(self, mask: Tensor) -> Tensor:
        """Bool (I, V, R): which regions belong to which view."""
        real = mask.sum(1)[:, None, None]  # (I, 1, 1)
        least = real.clamp(max=1)
        if self.training:
            order = torch.rand(len(mask), self.num_views, mask.shape[1], device=mask.device)
            rank = order.masked_fill(~mask[:, None], 2).argsort(2).argsort(2)
            return rank < (real * self.kept).long().maximum(least)
        out = real - (real * self.kept_in_evaluation).long().maximum(least)  # regions that a view leaves out
        view = torch.arange(self.num_views, device=mask.device)[:, None]
        shift = view * real // (self.num_views * out.clamp(min=1))  # (I, V, 1)
        place = (mask.cumsum(1)[:, None] - 1 + shift) % real.clamp(min=1)  # (I, V, R)
        left = (place + 1) * out // real.clamp(min=1) > place * out // real.clamp(min=1)
        return mask[:, None] & ~left


def nearest_patches(side: int, centres: Tensor, count: int) -> Tensor:
    """Bool (..., side * side): the patches of a square nearest to centres (...); of equal ones the first in reading.

    Example:
        >>> nearest_patches(3, torch.tensor([0]), 3).view(3, 3).int()
        tensor([[1, 1, 0],
                [1, 0, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    places = torch.arange(side * side, device=centres.device)
    rows, columns = places // side, places % side
    distance = (rows - rows[centres][..., None]).square() + (columns - columns[centres][..., None]).square()
    nearest = distance.sort(dim=-1, stable=True).indices[..., :count]
    return torch.zeros_like(distance, dtype=torch.bool).scatter(-1, nearest, True)  # noqa: FBT003 (the value)
