"""Interactive attention: regions and words refine each other before they are compared."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.nn.pooling import MeanPooling, Pooling
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.ops.checks import check_above_zero, check_choice, check_whole_or_none
from itmatch.ops.masking import at_least_float32
from itmatch.ops.pairs.attention import attention_weights
from itmatch.ops.pairs.interaction import Attended, RefinedCosines, object_sentence_weights, word_image_weights
from itmatch.ops.pairs.tiles import PairTile

CrossLevel = Literal["refine", "score"]
CROSS_LEVELS: tuple[CrossLevel, ...] = get_args(CrossLevel)

_GAMMA = 0.1  # where the learned factors of the refinement start


class InteractiveSimilarity(TiledSimilarity):
    r"""CMSEI: regions and words attend to each other, are refined by what they attend to, and are then compared.

    The score of a pair is that of refined words against the refined regions that they attend to, or the mean of it and
    other parts. Attention across levels (regions by the sentence, words by the image) refines these, or makes a part of
    its own: one global vector per side.

    Nothing of size ``I * T * R * D`` is made: all cosines follow exactly from the inner products of regions and words
    and from the two Gram matrices.

    Args:
        region_alignment: take the part of the regions too; it costs time.
        cross_level: what attention across levels does. ``"refine"``: it weighs the regions that words attend to and
            the words that are pooled, by learned factors that start at 0; ``"score"``: it makes the part of the global
            vectors; None: nothing.
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
        with ``"score"`` :math:`\cos(\sum_r \pi_r v'_r, \sum_w \rho_w t'_w)`, where
        :math:`\pi = \mathrm{softmax}_r(v'_r \cdot \bar t / (|\bar t| \tau))`, :math:`\rho` mirrored, :math:`\bar t` the
        mean word before refinement. With ``"refine"`` words attend by :math:`\beta_{rw} (1 + \eta R \pi_r)` in the
        place of :math:`\beta_{rw}`, and the pooling is
        :math:`(1 - \mu)\, \mathrm{pool}_w x_w + \mu \sum_w \rho_w x_w`, that of the mirrored part likewise with
        :math:`\pi`; :math:`\eta` and :math:`\mu` are learned.

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
        cross_level: CrossLevel | None = "refine",
        region_temperature: float = 1 / 4,
        word_temperature: float = 1 / 9,
        cross_level_temperature: float = 0.1,
        pooling: Pooling | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.region_alignment = region_alignment
        self.cross_level = check_choice("cross_level", cross_level, *CROSS_LEVELS, None)
        self.region_temperature = check_above_zero("region_temperature", region_temperature)
        self.word_temperature = check_above_zero("word_temperature", word_temperature)
        self.cross_level_temperature = check_above_zero("cross_level_temperature", cross_level_temperature)
        self.pooling = MeanPooling() if pooling is None else pooling
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)
        self.gamma_regions = nn.Parameter(torch.tensor([_GAMMA]))
        self.gamma_words = nn.Parameter(torch.tensor([_GAMMA]))
        if cross_level == "refine":
            self.eta = nn.Parameter(torch.zeros(1))
            self.mu = nn.Parameter(torch.zeros(1))

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
        refine = self.cross_level == "refine"
        scale = partial(self._region_factors, tile) if refine else None
        attended = Attended.of(tile, self.region_temperature, self.word_temperature, scale)
        refined = RefinedCosines(tile, attended, self.gamma_regions, self.gamma_words)
        temperature = self.cross_level_temperature
        rho = word_image_weights(tile, attended.beta, self.gamma_words, temperature) if refine else None
        parts = [self._pool(refined.word_cosines(), tile.word_mask, rho)]
        if self.region_alignment:
            pi = object_sentence_weights(tile, attended.alpha, self.gamma_regions, temperature) if refine else None
            parts.append(self._pool(refined.region_cosines(), tile.region_mask, pi))
        if self.cross_level == "score":
            parts.append(refined.cross_level_cosine(temperature))
        return (parts[0] if len(parts) == 1 else torch.stack(parts).mean(0))[..., None]

    def _region_factors(self, tile: PairTile, alpha: Tensor) -> Tensor:
        """(i, t, 1, R): how much the sentence makes of each region, 1 on average where eta is 0."""
        pi = object_sentence_weights(tile, alpha, self.gamma_regions, self.cross_level_temperature)
        mask = tile.region_mask
        count = pi.shape[2] if mask is None else mask.sum(2, keepdim=True)
        return (1 + self.eta * count * pi)[:, :, None]

    def _pool(self, values: Tensor, mask: Tensor | None, weights: Tensor | None) -> Tensor:
        pooled = at_least_float32(self.pooling(values, mask))
        return pooled if weights is None else torch.addcmul(pooled, self.mu, (weights * values).sum(2) - pooled)
