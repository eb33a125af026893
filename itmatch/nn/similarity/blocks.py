"""Blocks of one vector against blocks of several views."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.pooling import SumPooling
from itmatch.nn.similarity.base import Similarity
from itmatch.nn.similarity.hard_aligning import HardAligningSimilarity
from itmatch.ops.checks import check_list, check_whole, check_whole_or_none
from itmatch.ops.masking import at_least_float32, l2_normalize


class BlockSimilarity(Similarity):
    r"""AVSE: each block of a caption's vector takes the block that fits best in any view of the image.

    The vector of a side is ``Fragments.pooled`` where the encoder makes one; otherwise each of its fragments is a view.

    Args:
        block_dim: width of a block; a vector of size D is cut into ``D // block_dim`` blocks of equal width, which is
            ``block_dim`` where it divides D. A list of widths adds their scores.
        chunk_size: images per block of work; by default one that fits the cache.

    Shape:
        image (I, V, D) or pooled (I, D), text pooled (T, D) or (T, W, D) -> (I, T)

    Formula:
        .. math::
            S_{it} = \sum_b \max_{v, b'} \cos(t_b, v_{b'})

        over the blocks b of the caption, and the blocks b' of all views v of the image.

    Source:
        Liu et al., "Asymmetric Visual Semantic Embedding Framework for Efficient Vision-Language Alignment", AAAI
        2025 (AVSE), and its public code, with which values and gradients agree to 1e-5.

    Deviation:
        The public code cuts the two views of an image as one vector of size 2 D, into ``2 D // block_dim`` blocks, and
        fails where their width differs from that of the caption's blocks. Ours cuts each view by itself.

    Example:
        >>> image = Fragments(torch.randn(3, 2, 8))
        >>> text = Fragments(torch.randn(4, 6, 8), pooled=torch.randn(4, 8))
        >>> BlockSimilarity(4)(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(self, block_dim: int | list[int] = 256, *, chunk_size: int | None = None) -> None:
        super().__init__()
        widths = [block_dim] if isinstance(block_dim, int) else list(check_list("block_dim", block_dim))
        if not widths:
            raise ValueError("block_dim: an empty list, expected at least one width")
        self.widths = [check_whole("block_dim", width) for width in widths]
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)
        self.best = HardAligningSimilarity("words", SumPooling(), chunk_size=chunk_size)

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        image, text = _views(image), _views(text)
        self.check(image, text)
        scores = [self.best(_blocks(image, width), _blocks(text, width)) for width in self.widths]
        return sum(scores[1:], scores[0])


def _views(fragments: Fragments) -> Fragments:
    if fragments.pooled is None:
        return fragments
    mask = torch.ones(len(fragments.pooled), 1, dtype=torch.bool, device=fragments.pooled.device)
    return Fragments.unchecked(fragments.pooled[:, None], mask)


def _blocks(views: Fragments, width: int) -> Fragments:
    """(N, V, D) cut into (N, V * n, D / n), of length 1."""
    size = views.features.shape[2]
    count = size // width
    if not count:
        raise ValueError(f"BlockSimilarity: vectors of size {size}, expected at least one block of {width}")
    if size % count:
        raise ValueError(f"BlockSimilarity: vectors of size {size}, expected a multiple of {count} (blocks of {width})")
    features = at_least_float32(views.features.masked_fill(~views.mask[..., None], 0))
    features = features.reshape(features.shape[0], features.shape[1] * count, size // count)
    return Fragments.unchecked(l2_normalize(features), views.mask[..., None].expand(-1, -1, count).flatten(1, 2))
