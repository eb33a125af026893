"""The image encoder that looks at a photo several times."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itmatch.batch import Fragments, Regions
from itmatch.nn.encoders._output import takes_no_rows
from itmatch.nn.encoders.base import ImageEncoder
from itmatch.nn.linear import xavier_linear
from itmatch.nn.pooling import GeneralizedPooling, Pooling
from itmatch.ops.checks import check_kind, check_share, check_whole
from itmatch.ops.masking import l2_normalize


class ViewEncoder(ImageEncoder):
    r"""AVSE: several views of an image, each one vector of the patches around a place; for :class:`BlockSimilarity`.

    A view has a patch as its centre and reads the patches nearest to it. In training the centres are random. In
    evaluation they stand on the diagonal, in equal steps, so that an image has the same vectors each time.

    Args:
        in_features: size F of a patch.
        embed_dim: size D of the shared space, and of the vector of a view.
        num_views: V.
        kept: share of the patches, and the class token, that a view reads in training.
        kept_in_evaluation: the same in evaluation.
        class_token: the first fragment of an image stands for the whole; every view reads it.
        pooling: from the patches of a view to its vector; by default :class:`~itmatch.nn.GeneralizedPooling`.

    Shape:
        ``Regions`` with features (I, R, F), the class token and then the patches of a square, row by row ->
        ``Fragments`` with features (I, V, D), of length 1

    Source:
        Liu et al., "Asymmetric Visual Semantic Embedding Framework for Efficient Vision-Language Alignment", AAAI
        2025 (AVSE), and its public code, with whose heads the vectors agree to 1e-5.

    Deviation:
        The public code chooses the patches before a ViT, which then reads each view; here the patches of a view are
        chosen among stored ones. Its centres are random in evaluation too. Patches equally far from the centre are
        taken row by row, in the public code by rounding.

    Example:
        >>> encoder = ViewEncoder(16, 8)
        >>> encoder(Regions(torch.randn(2, 10, 16))).features.shape
        torch.Size([2, 2, 8])
    """

    offset = None  # a view stands for many patches

    def __init__(
        self,
        in_features: int,
        embed_dim: int = 1024,
        num_views: int = 2,
        *,
        kept: float = 0.8,
        kept_in_evaluation: float = 0.9,
        class_token: bool = True,
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_whole("ViewEncoder.in_features", in_features)
        self.embed_dim = check_whole("ViewEncoder.embed_dim", embed_dim)
        self.num_views = check_whole("ViewEncoder.num_views", num_views)
        self.kept = check_share("ViewEncoder.kept", kept)
        self.kept_in_evaluation = check_share("ViewEncoder.kept_in_evaluation", kept_in_evaluation)
        self.class_token = class_token
        self.pooling = GeneralizedPooling() if pooling is None else check_kind("pooling", pooling, Pooling)
        self.fc = xavier_linear(in_features, embed_dim)

    @takes_no_rows
    def forward(self, regions: Regions) -> Fragments:
        """Encode the patches of a batch of images."""
        features, mask = regions.features, regions.mask
        if features.shape[2] != self.in_features:
            raise ValueError(f"ViewEncoder: features of size {features.shape[2]}, expected {self.in_features}")
        encoded = self.fc(features.masked_fill(~mask[..., None], 0).to(self.fc.weight.dtype))  # (I, R, D)
        views = self.views(mask) & mask[:, None]  # (I, V, R)
        vectors = [self.pooling(encoded, view[..., None], dim=1) for view in views.unbind(1)]
        return Fragments(l2_normalize(torch.stack(vectors, 1)), views.any(2))

    def views(self, mask: Tensor) -> Tensor:
        """Bool (I, V, R): which fragments belong to which view; override it for views of another kind."""
        first, side = int(self.class_token), math.isqrt(mask.shape[1] - int(self.class_token))
        if side * side + first != mask.shape[1] or not side:
            raise ValueError(
                f"ViewEncoder: {mask.shape[1]} fragments, expected {'a class token and ' * first}patches of a square"
            )
        if self.training:
            centres = torch.randint(side * side, (mask.shape[0], self.num_views), device=mask.device)
        else:
            steps = (torch.arange(1, self.num_views + 1, device=mask.device) * side) // (self.num_views + 1)
            centres = (steps * (side + 1)).expand(mask.shape[0], -1)
        count = int((side * side + 1) * (self.kept if self.training else self.kept_in_evaluation))
        chosen = nearest_patches(side, centres, max(1, count))
        return torch.cat((chosen.new_ones(*centres.shape, first), chosen), 2)


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
