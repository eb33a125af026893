"""Hinge on the distances of images and captions to the centres of their instances."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.losses.base import EmbeddingLoss
from itmatch.losses.checks import check_vectors
from itmatch.losses.reductions import Reduction, check_reduction
from itmatch.ops.checks import check_choice, check_not_negative
from itmatch.ops.distances import inner_products, square_root, squared_distances
from itmatch.ops.masking import l2_normalize

Variant = Literal["separation", "compactness"]
Distance = Literal["euclidean", "squared", "cosine"]


def center_hinge_loss(
    image: Tensor,
    text: Tensor,
    groups: Tensor | None = None,
    *,
    margin: float = 0.2,
    variant: Variant = "separation",
    distance: Distance = "euclidean",
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge that keeps the members of an instance nearer to its centre than to that of any other instance.

    Formula:
        An instance :math:`i` is an image and its captions in the batch: the pairs with the same group. With all
        vectors divided by their length, its centre is the mean of its members, divided by its length,

        .. math:: c_i = \frac{v_i + \sum_{t \in i} t}{\| v_i + \sum_{t \in i} t \|}

        where the image :math:`v_i` counts once, however many captions it is paired with. With
        ``variant="separation"`` the loss is

        .. math:: \sum_i \sum_{x \in i} \big[ d(x, c_i) + m - \min_{j \ne i} d(x, c_j) \big]_+

        over all members, images and captions, and with ``variant="compactness"``

        .. math:: \sum_i \sum_{x \in i} \big[ d(x, c_i) - m \big]_+ .

        ``reduction="mean"`` divides by the number of members, ``"none"`` gives the terms of the images, then those of
        the captions, for each pair. :math:`d` is the Euclidean distance, its square, or 1 -
        cosine. A batch with one instance has no other centre, and separation 0. The centres are not constants: they
        have gradients too.

    Shape:
        - image, text: (N, D), the two sides of each pair; any length but 0
        - groups: (N,) int64, or None when all pairs are of different images
        - result: scalar, float32 (float64 for float64 vectors); (2 N,) for ``reduction="none"``

    Source:
        The name is that of Liu et al., *Learning Relationship-Enhanced Semantic Graph for Fine-Grained Image-Text
        Matching* (ReSG), IEEE Transactions on Cybernetics 54(2), 2024.

    Deviation:
        The formula of the paper was not available to us; both variants are our reading of the name. Where rows of one
        group hold different vectors of the image, the image is their mean, and each row counts as the part of one
        member.

    Example:
        >>> image = text = torch.eye(2)
        >>> center_hinge_loss(image, text).item()
        0.0
        >>> round(center_hinge_loss(image, text.flip(0)).item(), 4)  # every centre is half way: 4 members, 4 margins
        0.8
    """
    _check_options(margin, variant, distance, reduction)
    image, text, groups = check_vectors(image, text, groups)
    image, text = l2_normalize(image), l2_normalize(text)
    same = groups[:, None] == groups  # (N, N)
    part = 1 / same.sum(1).to(image.dtype)  # an image in n pairs is n rows, each a part of one member
    # the centre of every pair; pairs of one instance have the same, which changes neither minimum nor sum
    centre = l2_normalize(inner_products(same.to(image.dtype), (image * part[:, None] + text).T))  # (N, D)
    weight = torch.cat((part, torch.ones_like(part)))  # (2N,)
    distances = _distances(torch.cat((image, text)), centre, distance)  # (2N, N)
    own = torch.cat((distances[: len(image)].diagonal(), distances[len(image) :].diagonal()))
    if variant == "compactness":
        excess = own - margin
    else:
        others = distances.masked_fill(same.repeat(2, 1), torch.inf).amin(1)  # infinite where there are none
        excess = own + margin - others
    lost = weight * excess.clamp(min=0)
    if reduction == "none":
        return lost
    return lost.sum() if reduction == "sum" else lost.sum() / weight.sum()


def _distances(members: Tensor, centres: Tensor, distance: Distance) -> Tensor:
    if distance == "cosine":
        return 1 - inner_products(members, centres)
    squares = squared_distances(members, centres)
    return squares if distance == "squared" else square_root(squares)


def _check_options(margin: float, variant: str, distance: str, reduction: str) -> None:
    check_not_negative("margin", margin)
    check_choice("variant", variant, "separation", "compactness")
    check_choice("distance", distance, "euclidean", "squared", "cosine")
    check_reduction(reduction)


class CenterHingeLoss(EmbeddingLoss):
    """Center hinge, beside the triplet in ReSG; see :func:`center_hinge_loss`.

    Args:
        margin: wanted lead of the own centre over the next one (separation), or the radius within which members are
            left alone (compactness), in units of the distance: at most 2 for Euclidean and cosine, 4 for its square.
        variant: push instances apart, or hold the members of each together. Compactness alone is least when all
            vectors are equal, so it needs another term beside it.
        distance: between vectors of length 1.
        reduction: sum over the members, their mean, or one number each.

    Example:
        >>> loss = CenterHingeLoss(margin=0.5, variant="compactness")
        >>> loss(torch.eye(3), torch.eye(3)).item()
        0.0
    """

    def __init__(
        self,
        margin: float = 0.2,
        variant: Variant = "separation",
        distance: Distance = "euclidean",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        _check_options(margin, variant, distance, reduction)
        self.margin = margin
        self.variant: Variant = variant
        self.distance: Distance = distance
        self.reduction: Reduction = reduction

    def forward(self, image: Tensor, text: Tensor, groups: Tensor | None = None) -> Tensor:
        """Loss of paired vectors (N, D)."""
        return self.call(center_hinge_loss, image, text, groups)
