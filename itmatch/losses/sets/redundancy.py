"""Views of an image that say the same by each of their features, and each feature something else."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from itmatch.losses.base import Loss
from itmatch.losses.matches import Matches
from itmatch.ops.checks import check_not_negative
from itmatch.ops.distances import inner_products
from itmatch.ops.masking import at_least_float32, l2_normalize


def view_redundancy_loss(
    first: Tensor, second: Tensor, *, off_diagonal_weight: float = 0.0051, divided_twice: bool = False
) -> Tensor:
    r"""How far the correlations of the features of two views are from those of equal and independent features.

    Formula:
        Each feature, a column over the images of the batch, is divided by its length; with the products
        :math:`C = E_1^\top E_2` of the columns of the two views,

        .. math:: \sum_i (C_{ii} - 1)^2 + \lambda \sum_{i \ne j} C_{ij}^2

    Shape:
        - first, second: (N, D), the two views of N images
        - result: scalar, float32 (float64 for float64 vectors)

    Source:
        Liu et al., *Asymmetric Visual Semantic Embedding Framework for Efficient Vision-Language Alignment*, AAAI 2025
        (AVSE), with whose code ``divided_twice`` agrees to 1e-5. The form is that of Zbontar et al., *Barlow Twins*,
        ICML 2021, without centring.

    Deviation:
        The public code divides the products by N once more, which the lengths have done already: no :math:`C_{ii}` is
        then above 1 / N, and the first term stays near D. ``divided_twice=True`` does the same.

    Example:
        >>> view = torch.eye(3)
        >>> view_redundancy_loss(view, 2 * view).item()
        0.0
        >>> round(view_redundancy_loss(view, view, divided_twice=True).item(), 4)  # 3 (1 - 1/3)^2
        1.3333
    """
    check_not_negative("off_diagonal_weight", off_diagonal_weight)
    if first.ndim != 2 or first.shape != second.shape or first.numel() == 0:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"first, second: shapes {shapes}, expected (images, size) twice, not empty")
    columns = [l2_normalize(at_least_float32(view).T) for view in (first, second)]  # (D, N)
    products = inner_products(*columns)  # (D, D)
    if divided_twice:
        products = products / len(first)
    own = products.diagonal()
    off = products.square().sum() - own.square().sum()
    return (own - 1).square().sum() + off_diagonal_weight * off


class ViewRedundancyLoss(Loss):
    """The regulariser of AVSE, on the views of the images of a batch; see :func:`view_redundancy_loss`.

    A term of an :class:`Objective`, beside a loss of scores. The fragments of images are their views
    (:class:`itmatch.nn.ViewEncoder`); of more than two, each two are compared and the mean is taken.

    Args:
        off_diagonal_weight: of the products of different features.
        divided_twice: as in the public code.

    Example:
        >>> from itmatch.batch import Fragments
        >>> views = Fragments(torch.randn(6, 2, 4))
        >>> ViewRedundancyLoss().of(Matches(fragments=(views, views))).shape
        torch.Size([])
    """

    needs = frozenset({"fragments"})

    def __init__(self, off_diagonal_weight: float = 0.0051, *, divided_twice: bool = False) -> None:
        super().__init__()
        self.off_diagonal_weight = check_not_negative("off_diagonal_weight", off_diagonal_weight)
        self.divided_twice = divided_twice

    def of(self, matches: Matches) -> Tensor:
        """Loss of the views of a batch."""
        views = matches.both_sides(self)[0]
        pairs = list(combinations(range(views.features.shape[1]), 2))
        if not pairs:
            raise ValueError(f"{type(self).__name__}: images of one fragment, expected views, two at least")
        lost = []
        for first, second in pairs:
            both = (views.mask[:, first] & views.mask[:, second])[:, None]
            sides = (views.features[:, place].masked_fill(~both, 0) for place in (first, second))
            lost.append(self.call(view_redundancy_loss, *sides))
        return torch.stack(lost).mean()
