"""Interactive attention: regions and words refine each other before they are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.nn.pooling import MeanPooling, Pooling
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.ops.checks import check_above_zero, check_whole_or_none
from itmatch.ops.masking import at_least_float32
from itmatch.ops.pairs.attention import attention_weights
from itmatch.ops.pairs.interaction import Attended, RefinedCosines
from itmatch.ops.pairs.tiles import PairTile

_GAMMA = 0.1  # where the learned factors of the refinement start


class InteractiveSimilarity(TiledSimilarity):
    r"""CMSEI: regions and words attend to each other, are refined by what they attend to, and are then compared.

    The score of a pair is the mean of its parts: refined words against the refined regions that they attend to, the
    mirror of it if wanted, and one global vector per side, weighed by the other side (object-sentence and word-image
    attention).

    Nothing of size ``I * T * R * D`` is made: all cosines follow exactly from the inner products of regions and words
    and from the two Gram matrices.

    Args:
        region_alignment: take the part of the regions too; it costs time.
        cross_level: take the part of the global vectors.
        region_temperature: of the attention of regions over words.
        word_temperature: of the attention of words over regions.
        cross_level_temperature: of the softmax that weighs regions by the sentence and words by the image.
        pooling: over the words, and over the regions; by default :class:`~itmatch.nn.MeanPooling`.
        chunk_size: images per block; by default one that fits the cache.

    Formula:
        .. math::
            c_r = \sum_w \alpha_{rw} t_w, \quad d_w = \sum_r \beta_{rw} v_r, \quad
            v'_r = v_r + \gamma c_r, \quad t'_w = t_w + \delta d_w

        with the attention of SCAN and learned factors :math:`\gamma, \delta`. The parts are
        :math:`\mathrm{pool}_w \cos(t'_w, \sum_r \beta_{rw} v'_r)`, its mirror
        :math:`\mathrm{pool}_r \cos(v'_r, \sum_w \alpha_{rw} t'_w)`, and
        :math:`\cos(\sum_r \pi_r v'_r, \sum_w \rho_w t'_w)` with
        :math:`\pi = \mathrm{softmax}_r(v'_r \cdot \bar t / (|\bar t| \tau))`, :math:`\rho` mirrored, :math:`\bar t` the
        mean word before refinement.

    Source:
        CMSEI (WACV 2023) and Hire (2024) name the steps: interactive object-word attention with alignment, then
        object-sentence and word-image attention. Their formulas are not public at hand; those here are ours, on the
        attention of SCAN (ECCV 2018).

    Example:
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> InteractiveSimilarity()(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        *,
        region_alignment: bool = False,
        cross_level: bool = True,
        region_temperature: float = 1 / 4,
        word_temperature: float = 1 / 9,
        cross_level_temperature: float = 0.1,
        pooling: Pooling | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.region_alignment, self.cross_level = region_alignment, cross_level
        self.region_temperature = check_above_zero("region_temperature", region_temperature)
        self.word_temperature = check_above_zero("word_temperature", word_temperature)
        self.cross_level_temperature = check_above_zero("cross_level_temperature", cross_level_temperature)
        self.pooling = MeanPooling() if pooling is None else pooling
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)
        self.gamma_regions = nn.Parameter(torch.tensor([_GAMMA]))
        self.gamma_words = nn.Parameter(torch.tensor([_GAMMA]))

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """Mean of the two attentions, words over regions and regions over words, (R, W)."""
        return self.on_real_fragments(image, text, self._attention)

    def _attention(self, scores: Tensor) -> Tensor:
        pair = scores.T[None, None]  # (1, 1, W, R)
        alpha = attention_weights(pair, "regions", self.region_temperature)
        beta = attention_weights(pair, "words", self.word_temperature)
        return ((alpha + beta) / 2)[0, 0].T

    def score_tile(self, tile: PairTile) -> Tensor:
        """(i, t, 1) scores of a tile of pairs."""
        attended = Attended.of(tile, self.region_temperature, self.word_temperature)
        refined = RefinedCosines(tile, attended, self.gamma_regions, self.gamma_words)
        parts = [self._pool(refined.word_cosines(), tile.word_mask)]
        if self.region_alignment:
            parts.append(self._pool(refined.region_cosines(), tile.region_mask))
        if self.cross_level:
            parts.append(refined.cross_level_cosine(self.cross_level_temperature))
        return torch.stack(parts).mean(0)[..., None]

    def _pool(self, values: Tensor, mask: Tensor | None) -> Tensor:
        return at_least_float32(self.pooling(values, mask))
