"""Similarities of two sets of vectors: smooth and plain Chamfer, best partners, the best pair."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from itmatch.batch import Fragments
from itmatch.nn.pooling import MaxPooling, MeanPooling, Pooling, SumPooling
from itmatch.nn.similarity.hard_aligning import HardAligningSimilarity
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.ops.checks import check_above_zero, check_choice, check_whole_or_none
from itmatch.ops.masking import at_least_float32, l2_normalize, masked_logsumexp, masked_mean
from itmatch.ops.pairs.attention import REGIONS, WORDS, keep
from itmatch.ops.pairs.sides import Query
from itmatch.ops.pairs.tiles import PairTile

Kind = Literal["smooth_chamfer", "chamfer", "mean_max", "sum_max", "max", "mean_sigmoid"]

_SLOPE = 0.1  # of the leaky ReLU that clips
_SAFE = 60.0  # most that logits may differ by, so that none of their exponentials is lost in float32
_BEST: dict[Kind, tuple[Literal["words", "both"], type[Pooling]]] = {
    "chamfer": ("both", MeanPooling),
    "mean_max": ("words", MeanPooling),
    "sum_max": ("words", SumPooling),
    "max": ("words", MaxPooling),
}


class SetSimilarity(TiledSimilarity):
    r"""Compares an image and a caption as two sets of vectors; one family with the members of several papers.

    Inner products are meant to be cosines: let the encoders make unit vectors, or set ``normalize``.

    Args:
        kind: ``"smooth_chamfer"``: each vector takes a smooth maximum over the other set; the mean of both sides.
            ``"chamfer"``: the same with the maximum. ``"mean_max"``: the mean over the words of each one's best region.
            ``"sum_max"``: their sum. ``"max"``: the best pair alone. ``"mean_sigmoid"``: the mean over all pairs of
            ``sigmoid(scale * c + shift)``, with learned ``scale`` and ``shift``.
        temperature: of ``"smooth_chamfer"``; the inverse of the alpha of the paper. Towards 0 it is ``"chamfer"``.
        length_normalized: of ``"smooth_chamfer"``: logarithm of the *mean* of the exponentials, so that the score does
            not grow with the size of the sets. Where all sets have one size this shifts all scores by a constant.
        clipped: apply a leaky ReLU with slope 0.1 to the inner products first.
        normalize: L2-normalise the fragments first.
        chunk_size: images per block; by default one that fits the cache.

    Shape:
        image (I, R, D), text (T, W, D) -> (I, T)

    Formula:
        With the inner products :math:`c_{rw} = v_r \cdot t_w`:

        .. math::
            \text{smooth\_chamfer} &= \tfrac12 \big( \mathrm{mean}_r\, \tau \log \sum_w e^{c_{rw} / \tau}
                + \mathrm{mean}_w\, \tau \log \sum_r e^{c_{rw} / \tau} \big) \\
            \text{chamfer} &= \tfrac12 \big( \mathrm{mean}_r \max_w c_{rw} + \mathrm{mean}_w \max_r c_{rw} \big)

    Source:
        ``smooth_chamfer``: Kim, Kim and Kwak, "Improving Cross-Modal Retrieval with Set of Diverse Embeddings", CVPR
        2023 (DivE). ``chamfer`` and ``mean_max``: Yao et al., "FILIP", ICLR 2022. ``sum_max``: Khattab and Zaharia,
        "ColBERT", SIGIR 2020. ``max``: Song and Soleymani, "Polysemous Visual-Semantic Embedding", CVPR 2019.
        ``mean_sigmoid``: the matching probability of Chun et al., "Probabilistic Embeddings for Cross-Modal Retrieval",
        CVPR 2021. Values and gradients agree with the public code of DivE, and of LAPS for ``chamfer`` and
        ``mean_max``, to 1e-5.

    Example:
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> SetSimilarity("smooth_chamfer", normalize=True)(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        kind: Kind = "smooth_chamfer",
        temperature: float = 1 / 16,
        *,
        length_normalized: bool = False,
        clipped: bool = False,
        normalize: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.kind = check_choice("kind", kind, *get_args(Kind))
        self.temperature = check_above_zero("temperature", temperature)
        if length_normalized and kind != "smooth_chamfer":
            raise ValueError(f'length_normalized goes with kind="smooth_chamfer", got kind={kind!r}')
        self.length_normalized, self.clipped, self.normalize = length_normalized, clipped, normalize
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)
        self.best = _Best(kind, chunk_size, clipped=clipped) if kind in _BEST else None
        if kind == "mean_sigmoid":
            self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        if self.normalize:
            image, text = _unit(image), _unit(text)
        scores: Tensor = super().forward(image, text) if self.best is None else self.best(image, text)
        return scores

    def score_tile(self, tile: PairTile) -> Tensor:
        """(i, t, 1) scores of a tile of pairs, of the kinds that read all inner products."""
        scores = leaky_relu(tile.scores, _SLOPE) if self.clipped else tile.scores
        words = None if tile.word_mask is None else tile.word_mask[..., None]  # (1, t, W, 1)
        regions = None if tile.region_mask is None else tile.region_mask[:, :, None]  # (i, t, 1, R)
        if self.kind == "smooth_chamfer":
            of_words, of_regions = self._smooth_maxima(scores / self.temperature, words, regions)
            mean = masked_mean(of_words, tile.word_mask, 2) + masked_mean(of_regions, tile.region_mask, 2)
            return (self.temperature / 2 * mean)[..., None]
        fits = keep(keep(self._fits(scores), words), regions)
        return (fits.sum((2, 3)) / (_counts(words, fits, WORDS) * _counts(regions, fits, REGIONS)))[..., None]

    def _smooth_maxima(self, scores: Tensor, words: Tensor | None, regions: Tensor | None) -> tuple[Tensor, Tensor]:
        """(i, t, W) of every word over the regions, (i, t, R) of every region over the words."""
        bounds = None if torch.compiler.is_compiling() else scores.detach().aminmax()
        if bounds is not None and bool(bounds.max - bounds.min <= _SAFE):  # both sides share the exponentials
            top = bounds.max
            exponentials = (scores - top).exp()
            of_words = keep(exponentials, regions).sum(REGIONS).log() + top
            of_regions = keep(exponentials, words).sum(WORDS).log() + top
        else:
            of_words, of_regions = masked_logsumexp(scores, regions, REGIONS), masked_logsumexp(scores, words, WORDS)
        if not self.length_normalized:
            return of_words, of_regions
        many_words, many_regions = (
            torch.as_tensor(_counts(mask, scores, dim)).to(scores).log()[..., None]
            for mask, dim in ((words, WORDS), (regions, REGIONS))
        )
        return of_words - many_regions, of_regions - many_words

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """What links regions and words, (R, W): the winners' scores, or how much each pair counts."""
        if self.normalize:
            image, text = _unit(image), _unit(text)
        return self.on_real_fragments(image, text, self._links) if self.best is None else self.best.align(image, text)

    def _links(self, scores: Tensor) -> Tensor:
        scores = leaky_relu(scores, _SLOPE) if self.clipped else scores
        if self.kind == "smooth_chamfer":
            return ((scores / self.temperature).softmax(0) + (scores / self.temperature).softmax(1)) / 2
        return self._fits(scores)

    def _fits(self, scores: Tensor) -> Tensor:
        """How probable it is that two vectors belong together."""
        return (scores * at_least_float32(self.scale) + at_least_float32(self.shift)).sigmoid()


class _Best(HardAligningSimilarity):
    """The kinds in which a fragment takes its best partner; clipping changes no winner."""

    def __init__(self, kind: Kind, chunk_size: int | None, *, clipped: bool) -> None:
        query, pooling = _BEST[kind]
        super().__init__(query, pooling(), chunk_size=chunk_size)
        self.clipped, self.single = clipped, kind == "max"

    def align_queries(self, image: Fragments, text: Fragments, query: Query) -> Tensor:
        best = super().align_queries(image, text, query)
        return leaky_relu(best, _SLOPE) if self.clipped else best

    def align_pair(self, scores: Tensor, dim: int) -> Tensor:
        scores = leaky_relu(scores, _SLOPE) if self.clipped else scores
        if not self.single:
            return super().align_pair(scores, dim)
        best = scores.argmax()
        return torch.where(torch.arange(scores.numel(), device=scores.device).view_as(scores) == best, scores, 0)


def _counts(mask: Tensor | None, values: Tensor, dim: int) -> Tensor | int:
    """Number of real fragments along a dimension: (i, t), or what broadcasts to it."""
    return values.shape[dim] if mask is None else mask.sum((2, 3))


def _unit(fragments: Fragments) -> Fragments:
    features = at_least_float32(fragments.features.masked_fill(~fragments.mask[..., None], 0))
    return Fragments.unchecked(l2_normalize(features), fragments.mask)
