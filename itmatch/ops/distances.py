"""Inner products and distances of vectors in full precision, also under autocast."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.ops.checks import check_choice
from itmatch.ops.masking import l2_normalize

Distance = Literal["sampled", "wasserstein"]


def inner_products(first: Tensor, second: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N), in the dtype of the vectors."""
    with torch.autocast(first.device.type, enabled=False):  # it would make the product in half precision
        return first @ second.T


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N); never below 0. No (M, N, D) is held."""
    lengths = first.square().sum(1)[:, None] + second.square().sum(1)
    return (lengths - 2 * inner_products(first, second)).clamp(min=0)


def exact_distances(first: Tensor, second: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N), by differences, since products round small distances; at 0 the gradient is 0."""
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        return torch.cdist(first.to(dtype), second.to(dtype), compute_mode="donot_use_mm_for_euclid_dist")


def square_root(squares: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    zero = squares <= torch.finfo(squares.dtype).tiny
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def sampled_distances(image: Tensor, text: Tensor, *, normalize: bool = True, distance: Distance = "sampled") -> Tensor:
    r"""Expected squared distance of a sample of each image to a sample of each caption, in closed form.

    Formula:
        .. math:: d(v, t) = \| \mu_v - \mu_t \|^2 + \| \sigma_v^2 + \sigma_t^2 \|_1

        for Gaussians with diagonal covariance; the first half of a vector is :math:`\mu`, the second
        :math:`\log \sigma^2`. With ``distance="wasserstein"``, an ablation of the paper, the second term is
        :math:`\| \sigma_v - \sigma_t \|^2`, which two equal Gaussians have at 0.

    Shape:
        - image: (N, 2 D)
        - text: (M, 2 D)
        - result: (N, M), at least float32

    Source:
        Chun, *Improved Probabilistic Image-Text Representations* (PCME++), ICLR 2024.

    Example:
        >>> point = torch.tensor([[1.0, 0.0, -100.0, -100.0]])
        >>> wide = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
        >>> sampled_distances(point, wide)  # 2 between the means, variance 1 in each of 2 dimensions
        tensor([[4.]])
    """
    check_choice("distance", distance, "sampled", "wasserstein")
    dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    means, logs = [], []
    for name, vectors in (("image", image), ("text", text)):
        if vectors.ndim != 2 or vectors.shape[1] % 2:
            raise ValueError(
                f"{name}: shape {tuple(vectors.shape)}, expected (pairs, 2 D): mean and logarithm of the variance"
            )
        mean, log_variance = vectors.to(dtype).chunk(2, dim=1)
        means.append(l2_normalize(mean) if normalize else mean)
        logs.append(log_variance)
    if distance == "wasserstein":
        return squared_distances(*means) + squared_distances(*((log / 2).exp() for log in logs))
    spreads = [log.exp().sum(1) for log in logs]
    return squared_distances(*means) + spreads[0][:, None] + spreads[1]
