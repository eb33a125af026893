"""Interactive attention: regions and words refine each other before they are compared."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.nn.pooling import MeanPooling, Pooling
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.ops.attention import Normalization, attention_weights, check_normalization
from itmatch.ops.checks import check_above_zero, check_finite, check_whole_or_none
from itmatch.ops.interaction import Attended, ExplicitInteraction, ResidualInteraction, attended_vectors
from itmatch.ops.masking import at_least_float32
from itmatch.ops.tiles import PairTile


class InteractiveSimilarity(TiledSimilarity):
    r"""Object-word attention both ways, refinement by what was attended to, and comparison at three levels.

    The score of a pair is the mean of the enabled parts: refined words against the refined regions that they attend
    to, the mirror of it, and one global vector a side, weighed by the other side (object-sentence and word-image
    attention).

    With the residual refinement nothing of size ``I * T * R * D`` is made: all cosines follow exactly from the inner
    products of regions and words and from the two Gram matrices. The gated refinement needs the vectors themselves;
    they are made block by block, and made again for the gradient.

    Args:
        refinement: ``"residual"``: add a learned multiple of the attended vector; ``"gated"``: a gated update by two
            linear layers a side; None: leave regions and words as they are.
        embed_dim: size D, for ``"gated"`` alone.
        refine_regions: refine the regions by the words that they attend to.
        refine_words: refine the words by the regions that they attend to.
        word_alignment: take the part of the words.
        region_alignment: take the part of the regions. It is off by default: scoring takes two fifths more time
            with it, and the few runs that we have show no gain.
        cross_level: take the part of the global vectors.
        region_lambda: inverse temperature of the attention of regions over words.
        word_lambda: inverse temperature of the attention of words over regions.
        normalization: of the inner products before the attention, as in
            :class:`~itmatch.nn.CrossAttentionSimilarity`.
        cross_level_temperature: of the softmax that weighs regions by the sentence and words by the image.
        gamma: where the learned factor of the residual refinement starts.
        pooling: over the words, and over the regions; by default :class:`~itmatch.nn.MeanPooling`.
        chunk_size: images a block; by default one that fits the cache.

    Formula:
        .. math::
            c_r = \sum_w \alpha_{rw} t_w, \quad d_w = \sum_r \beta_{rw} v_r, \quad
            v'_r = v_r + \gamma c_r, \quad t'_w = t_w + \delta d_w

        with the attention of SCAN; gated,
        :math:`v'_r = v_r + W_2 \mathrm{ReLU}(W_1 (v_r \odot \tanh(W_s c_r) + W_b c_r))`. The parts are
        :math:`\mathrm{pool}_w \cos(t'_w, \sum_r \beta_{rw} v'_r)`, its mirror
        :math:`\mathrm{pool}_r \cos(v'_r, \sum_w \alpha_{rw} t'_w)`, and
        :math:`\cos(\sum_r \pi_r v'_r, \sum_w \rho_w t'_w)` with
        :math:`\pi = \mathrm{softmax}_r(v'_r \cdot \bar t / (|\bar t| \tau))`, :math:`\rho` mirrored, :math:`\bar t` the
        mean word before refinement.

    Source:
        CMSEI (WACV 2023) and Hire (2024) name the steps: interactive object-word attention with alignment, then
        object-sentence and word-image attention. Their formulas are not public at hand; those here are ours, on the
        attention of SCAN (ECCV 2018). The gated form is ours too.

    Example:
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> InteractiveSimilarity()(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        refinement: Literal["residual", "gated"] | None = "residual",
        embed_dim: int | None = None,
        *,
        refine_regions: bool = True,
        refine_words: bool = True,
        word_alignment: bool = True,
        region_alignment: bool = False,
        cross_level: bool = True,
        region_lambda: float = 4.0,
        word_lambda: float = 9.0,
        normalization: Normalization = "clipped_l2norm",
        cross_level_temperature: float = 0.1,
        gamma: float = 0.1,
        pooling: Pooling | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if refinement not in ("residual", "gated", None):
            raise ValueError(f'refinement: {refinement!r}, expected "residual", "gated" or None')
        if (refinement == "gated") != (embed_dim is not None):
            raise ValueError(f'embed_dim: {embed_dim}; give it with refinement="gated", and only then')
        if not (word_alignment or region_alignment or cross_level):
            raise ValueError("word_alignment, region_alignment and cross_level are all off: there is nothing to score")
        self.refinement, self.embed_dim = refinement, check_whole_or_none("embed_dim", embed_dim)
        self.word_alignment, self.region_alignment, self.cross_level = word_alignment, region_alignment, cross_level
        self.region_lambda = check_above_zero("region_lambda", region_lambda)
        self.word_lambda = check_above_zero("word_lambda", word_lambda)
        self.normalization = check_normalization(normalization)
        self.cross_level_temperature = check_above_zero("cross_level_temperature", cross_level_temperature)
        self.pooling = MeanPooling() if pooling is None else pooling
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)
        check_finite("gamma", gamma)
        wanted = {"regions": refine_regions, "words": refine_words}
        if refinement == "gated" and embed_dim is not None:
            self.gates = nn.ModuleDict({side: _Gate(embed_dim) for side, refine in wanted.items() if refine})
        residual = refinement == "residual"
        self.gamma_regions = nn.Parameter(torch.tensor([float(gamma)])) if residual and refine_regions else None
        self.gamma_words = nn.Parameter(torch.tensor([float(gamma)])) if residual and refine_words else None

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        if self.embed_dim is not None and image.features.shape[2] != self.embed_dim:
            raise ValueError(f"fragments of size {image.features.shape[2]}, expected embed_dim {self.embed_dim}")
        return super().forward(image, text)

    def numbers_per_pair(self, image: Fragments, text: Fragments) -> int:
        """The refined fragments, where they are made."""
        size = image.features.shape[2] * (image.features.shape[1] + text.features.shape[1])
        return size if self.refinement == "gated" else 0

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """Mean of the two attentions, words over regions and regions over words, (R, W)."""
        return self.on_real_fragments(image, text, self._attention)

    def _attention(self, scores: Tensor) -> Tensor:
        pair = scores.T[None, None]  # (1, 1, W, R)
        alpha = attention_weights(pair, "regions", self.region_lambda, self.normalization)
        beta = attention_weights(pair, "words", self.word_lambda, self.normalization)
        return ((alpha + beta) / 2)[0, 0].T

    def score_tile(self, tile: PairTile) -> Tensor:
        """(i, t, 1) scores of a tile of pairs."""
        attended = Attended.of(tile, self.region_lambda, self.word_lambda, self.normalization)
        refined = self._refined(tile, attended)
        parts = []
        if self.word_alignment:
            parts.append(self._pool(refined.word_cosines(), tile.word_mask))
        if self.region_alignment:
            parts.append(self._pool(refined.region_cosines(), tile.region_mask))
        if self.cross_level:
            parts.append(refined.cross_level_cosine(self.cross_level_temperature))
        return torch.stack(parts).mean(0)[..., None]

    def _refined(self, tile: PairTile, attended: Attended) -> ResidualInteraction | ExplicitInteraction:
        if self.refinement != "gated":
            gamma, delta = (0.0 if factor is None else factor for factor in (self.gamma_regions, self.gamma_words))
            return ResidualInteraction(tile, attended, gamma, delta)
        regions, words = tile.per_image(tile.images.vectors), tile.captions.vectors[None]
        of_regions, of_words = attended_vectors(tile, attended)
        if "regions" in self.gates:
            regions = self.gates["regions"](regions, of_regions)
        if "words" in self.gates:
            words = self.gates["words"](words, of_words)
        return ExplicitInteraction(tile, attended, regions, words)

    def _pool(self, values: Tensor, mask: Tensor | None) -> Tensor:
        mask = values.new_ones(1, 1, values.shape[2], dtype=torch.bool) if mask is None else mask
        return at_least_float32(self.pooling(values, mask))


class _Gate(nn.Module):
    """``x + W2 ReLU(W1 (x * tanh(Ws c) + Wb c))``; the identity when it starts."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Linear(size, size), nn.Linear(size, size)
        self.inner, self.out = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, own: Tensor, attended: Tensor) -> Tensor:
        dtype = self.scale.weight.dtype  # half, where the whole model is
        given, met = own.to(dtype), attended.to(dtype)
        modulated = given * self.scale(met).tanh() + self.shift(met)
        return own + at_least_float32(self.out(self.inner(modulated).relu()))
