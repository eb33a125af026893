"""A similarity of one's own, for 04_own_block.py and 04_own_block.sh."""

import torch

from itmatch.batch import Fragments
from itmatch.nn import Similarity
from itmatch.ops import masked_mean


class TopKSimilarity(Similarity):
    """Mean over words of the mean of each word's k best regions.

    Args:
        k: regions a word is compared with; fewer where an image has fewer.
    """

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.k = k

    def forward(self, image: Fragments, text: Fragments) -> torch.Tensor:
        """Scores (I, T)."""
        self.check(image, text)
        scores = torch.einsum("ird,twd->itwr", image.features, text.features)
        scores = scores.masked_fill(~image.mask[:, None, None], -torch.inf)  # padding comes last
        best = scores.topk(min(self.k, scores.shape[-1])).values  # (I, T, W, k)
        words = masked_mean(best, best > -torch.inf, -1)  # (I, T, W)
        return masked_mean(words, text.mask[None], -1)
