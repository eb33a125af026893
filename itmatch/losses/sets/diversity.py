"""Sets whose vectors should differ from each other."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses.base import Loss
from itmatch.losses.matches import Matches
from itmatch.ops.checks import check_above_zero
from itmatch.ops.distances import square_root
from itmatch.ops.masking import at_least_float32, l2_normalize, or_all


def set_uniformity_loss(sets: Tensor, mask: Tensor | None = None, *, temperature: float = 0.5) -> Tensor:
    r"""How near to each other the vectors of a set are, 0 far apart and 1 where all are equal; the mean over the sets.

    Formula:
        For vectors :math:`r_1 .. r_K` of length 1,

        .. math:: \frac{2}{K (K - 1)} \sum_{k < l} e^{-\|r_k - r_l\|^2 / \tau}

        A set of one vector is left out of the mean.

    Shape:
        - sets: (N, K, D), divided by their lengths first
        - mask: (N, K) bool, True = real, or None
        - result: scalar, float32 (float64 for float64 vectors)

    Source:
        Kim, Kim and Kwak, CVPR 2023 (DivE), after Wang and Isola, *Understanding Contrastive Representation Learning
        through Alignment and Uniformity on the Hypersphere*, ICML 2020. Values and gradients agree with the public code
        to 1e-5, where 1 / temperature is 2.

    Example:
        >>> round(set_uniformity_loss(torch.eye(3)[None]).item(), 4)  # e^-4
        0.0183
    """
    check_above_zero("temperature", temperature)
    products, pairs = _products(sets, mask)
    near = ((2 * products - 2) / temperature).exp().masked_fill(~pairs, 0).sum((1, 2))  # each pair twice
    return _mean(near / pairs.sum((1, 2)).clamp(min=1), pairs)


def set_diversity_loss(sets: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""How large the products of different vectors of a set are; the mean over the sets.

    Formula:
        For vectors of length 1, with their Gram matrix :math:`G`, :math:`\| G - \mathrm{diag}\, G \|_F / K^2`. A set of
        one vector is left out of the mean.

    Shape:
        As :func:`set_uniformity_loss`.

    Source:
        Song and Soleymani, *Polysemous Visual-Semantic Embedding for Cross-Modal Retrieval*, CVPR 2019 (PVSE), in the
        form of the public code of DivE, with which values and gradients agree to 1e-5.

    Example:
        >>> set_diversity_loss(torch.eye(3)[None]).item()
        0.0
        >>> round(set_diversity_loss(torch.ones(1, 2, 3)).item(), 4)
        0.3536
    """
    products, pairs = _products(sets, mask)
    length = square_root(products.masked_fill(~pairs, 0).square().sum((1, 2)))  # (N,)
    real = pairs.any(2).sum(1).clamp(min=1)  # (N,), K of those sets that have a pair
    return _mean(length / real.square(), pairs)


def _products(sets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Cosines (N, K, K) within each set, and which of them are of two different real vectors."""
    if sets.ndim != 3 or sets.numel() == 0:
        raise ValueError(f"sets: shape {tuple(sets.shape)}, expected (sets, vectors, size), not empty")
    real = or_all(mask, sets).expand(sets.shape[:2])
    vectors = l2_normalize(at_least_float32(sets).masked_fill(~real[..., None], 0))
    with torch.autocast(sets.device.type, enabled=False):
        products = vectors @ vectors.transpose(1, 2)
    other = ~torch.eye(sets.shape[1], dtype=torch.bool, device=sets.device)
    return products, real[:, :, None] & real[:, None] & other


def _mean(values: Tensor, pairs: Tensor) -> Tensor:
    counted = pairs.flatten(1).any(1)
    return values.masked_fill(~counted, 0).sum() / counted.sum().clamp(min=1)


class SetUniformityLoss(Loss):
    """How near to each other the vectors of images are, and those of captions; see :func:`set_uniformity_loss`.

    A term of an :class:`Objective`, beside a loss of scores; published with the weight 0.01. The sets are the
    fragments, as :class:`itmatch.nn.SlotImageEncoder` makes them.

    Args:
        temperature: of the kernel, in units of the squared distance.

    Deviation:
        DivE's code applies it to what the slots have found, before the vector of the whole is added to each; here the
        vectors of the sets are those that are compared.

    Example:
        >>> from itmatch.batch import Fragments
        >>> sets = Fragments(torch.eye(3).expand(2, 3, 3))
        >>> round(SetUniformityLoss().of(Matches(fragments=(sets, sets))).item(), 4)
        0.0366
    """

    needs = frozenset({"fragments"})

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = check_above_zero("temperature", temperature)

    def of(self, matches: Matches) -> Tensor:
        """Loss of the sets of a batch."""
        image, text = (self.call(set_uniformity_loss, s.features, s.mask) for s in matches.both_sides(self))
        return image + text


class SetDiversityLoss(Loss):
    """How large products within the sets of images are, and within those of captions; see :func:`set_diversity_loss`.

    A term of an :class:`Objective`, beside a loss of scores. The sets are the fragments.

    Example:
        >>> from itmatch.batch import Fragments
        >>> sets = Fragments(torch.eye(3).expand(2, 3, 3))
        >>> SetDiversityLoss().of(Matches(fragments=(sets, sets))).item()
        0.0
    """

    needs = frozenset({"fragments"})

    def of(self, matches: Matches) -> Tensor:
        """Loss of the sets of a batch."""
        image, text = (set_diversity_loss(side.features, side.mask) for side in matches.both_sides(self))
        return image + text
