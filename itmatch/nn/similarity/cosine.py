"""Scores of one vector per image and one vector per caption: their cosine, or how near two Gaussians are."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.similarity.base import Similarity
from itmatch.ops.checks import check_choice
from itmatch.ops.distances import Distance, sampled_distances
from itmatch.ops.masking import at_least_float32, l2_normalize, masked_mean


class CosineSimilarity(Similarity):
    """The cosine of one vector per image and one per caption, the score of VSE-type models.

    The vectors are ``Fragments.pooled`` where the encoder makes them, otherwise the masked mean of the fragments.
    Mean, length and product are computed in at least float32, also under autocast.

    Formula:
        ``S[i, t] = v̄_i . t̄_t / (|v̄_i| |t̄_t|)``

    Example:
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> CosineSimilarity()(image, text).shape
        torch.Size([3, 4])
    """

    reads_pooled = True

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        return _products(_vectors(image), _vectors(text))

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """Cosine of every region with every word, (R, W)."""
        self.check_pair(image, text)
        regions = image.features[0].masked_fill(~image.mask[0, :, None], 0)
        words = text.features[0].masked_fill(~text.mask[0, :, None], 0)
        return _products(regions, words)


class GaussianSimilarity(Similarity):
    """How near two Gaussians are, one per image and one per caption: the score of PCME++.

    ``Fragments.pooled`` of both sides is a mean and, behind it, the logarithm of a variance (:class:`GaussianPooling`).
    Encoders must not normalise it: ``normalize=False``.

    Args:
        normalize: divide the means by their length first.
        distance: of the paper, or of its ablation; see :func:`itmatch.losses.sampled_distances`.

    Formula:
        ``S[i, t] = -(|mu_i - mu_t|^2 + |sigma_i^2 + sigma_t^2|_1)``

    Source:
        Chun, "Improved Probabilistic Image-Text Representations" (PCME++), ICLR 2024: the negative of its distance,
        which orders pairs as its probability of a match does.

    Example:
        >>> image, text = (Fragments(torch.randn(n, 5, 8), pooled=torch.randn(n, 16)) for n in (3, 4))
        >>> GaussianSimilarity()(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(self, *, normalize: bool = True, distance: Distance = "sampled") -> None:
        super().__init__()
        self.normalize = normalize
        self.distance: Distance = check_choice("distance", distance, "sampled", "wasserstein")

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        sides = []
        for name, fragments in (("image", image), ("text", text)):
            if fragments.pooled is None:
                raise ValueError(f"{type(self).__name__}: no vector per {name}; both encoders need a GaussianPooling")
            sides.append(fragments.pooled)
        return -sampled_distances(*sides, normalize=self.normalize, distance=self.distance)


def _vectors(fragments: Fragments) -> Tensor:
    if fragments.pooled is not None:
        return fragments.pooled
    return masked_mean(at_least_float32(fragments.features), fragments.mask[..., None], 1)


def _products(image: Tensor, text: Tensor) -> Tensor:
    """(I, D), (T, D) -> (I, T) cosines."""
    dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    with torch.autocast(image.device.type, enabled=False):  # it would make the product in half precision
        return l2_normalize(image.to(dtype)) @ l2_normalize(text.to(dtype)).T
