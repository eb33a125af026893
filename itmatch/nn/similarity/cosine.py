"""Cosine of one vector an image and one vector a caption."""

from __future__ import annotations

from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.similarity.base import Similarity
from itmatch.ops.masking import l2_normalize, masked_mean


class CosineSimilarity(Similarity):
    """Cosine of two global vectors, the score of VSE-type models.

    The vectors are ``Fragments.pooled`` where the encoder makes them, otherwise the masked mean of the fragments.

    Formula:
        ``S[i, t] = v̄_i . t̄_t / (|v̄_i| |t̄_t|)``

    Example:
        >>> import torch
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> CosineSimilarity()(image, text).shape
        torch.Size([3, 4])
    """

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        return _unit_vectors(image) @ _unit_vectors(text).T

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """Cosine of every region with every word, (R, W)."""
        self.check_pair(image, text)
        regions = l2_normalize(image.features[0].masked_fill(~image.mask[0, :, None], 0))
        words = l2_normalize(text.features[0].masked_fill(~text.mask[0, :, None], 0))
        return regions @ words.T


def _unit_vectors(fragments: Fragments) -> Tensor:
    vectors = fragments.pooled
    if vectors is None:
        vectors = masked_mean(fragments.features, fragments.mask[..., None], 1)
    return l2_normalize(vectors)
