"""Cosine of one vector per image and one vector per caption."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.similarity.base import Similarity
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


def _vectors(fragments: Fragments) -> Tensor:
    if fragments.pooled is not None:
        return fragments.pooled
    return masked_mean(at_least_float32(fragments.features), fragments.mask[..., None], 1)


def _products(image: Tensor, text: Tensor) -> Tensor:
    """(I, D), (T, D) -> (I, T) cosines."""
    dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    with torch.autocast(image.device.type, enabled=False):  # it would make the product in half precision
        return l2_normalize(image.to(dtype)) @ l2_normalize(text.to(dtype)).T
