"""Images and captions as two clouds of vectors that should be alike."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses.base import Loss
from itmatch.losses.matches import Matches
from itmatch.losses.reductions import Total
from itmatch.ops.checks import check_above_zero, check_choice
from itmatch.ops.distances import exact_distances


def discrepancy_loss(image: Tensor, text: Tensor, *, temperature: float = 2.0, reduction: Total = "mean") -> Tensor:
    r"""Maximum mean discrepancy (MMD): 0 where the vectors of images and of captions are spread alike.

    Formula:
        .. math:: \mathrm{mean}\, k(v, v') - 2\, \mathrm{mean}\, k(v, t) + \mathrm{mean}\, k(t, t'), \qquad
            k(x, y) = e^{-\|x - y\| / \tau}

        over all pairs of vectors, those of a vector with itself too; sums in place of means for ``reduction="sum"``.

    Shape:
        - image: (N, D)
        - text: (M, D)
        - result: scalar, float32 (float64 for float64 vectors)

    Source:
        Kim, Kim and Kwak, *Improving Cross-Modal Retrieval with Set of Diverse Embeddings*, CVPR 2023 (DivE), with
        whose code values and gradients agree to 1e-5: there 1 / temperature is 0.5.

    Example:
        >>> discrepancy_loss(torch.eye(2), torch.eye(2)).item()
        0.0
        >>> round(discrepancy_loss(torch.tensor([[0.0]]), torch.tensor([[2.0]])).item(), 4)  # 2 - 2 / e
        1.2642
    """
    check_above_zero("temperature", temperature)
    check_choice("reduction", reduction, "sum", "mean")
    for name, vectors in (("image", image), ("text", text)):
        if vectors.ndim != 2 or vectors.numel() == 0 or vectors.shape[1] != image.shape[1]:
            raise ValueError(f"{name}: shape {tuple(vectors.shape)}, expected (vectors, size), of one size, not empty")
    total = image.new_zeros((), dtype=torch.promote_types(image.dtype, torch.float32))
    for first, second, factor in ((image, image, 1), (image, text, -2), (text, text, 1)):
        kernel = (-exact_distances(first, second) / temperature).exp()
        total = total + factor * (kernel.sum() if reduction == "sum" else kernel.mean())
    return total


class DiscrepancyLoss(Loss):
    """The discrepancy of the fragments of images and of captions, in DivE their sets; see :func:`discrepancy_loss`.

    A term of an :class:`Objective`, beside a loss of scores; published with the weight 0.01.

    Args:
        temperature: of the kernel, in units of the distance.
        reduction: means over the pairs of vectors, or sums.

    Example:
        >>> from itmatch.batch import Fragments
        >>> sets = Fragments(torch.eye(4)[:, None])
        >>> DiscrepancyLoss().of(Matches(fragments=(sets, sets))).item()
        0.0
    """

    needs = frozenset({"fragments"})

    def __init__(self, temperature: float = 2.0, reduction: Total = "mean") -> None:
        super().__init__()
        self.temperature = check_above_zero("temperature", temperature)
        self.reduction: Total = check_choice("reduction", reduction, "sum", "mean")

    def of(self, matches: Matches) -> Tensor:
        """Loss of the real fragments of a batch."""
        image, text = (side.features[side.mask] for side in matches.both_sides(self))
        return self.call(discrepancy_loss, image, text)
