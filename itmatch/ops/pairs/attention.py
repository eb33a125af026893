"""Cross-attention between the fragments of every image and every caption, without the attended vectors.

With regions V and words T of a pair, ``s = V Tᵀ``, Gram matrices ``G = V Vᵀ`` and ``H = T Tᵀ``, and attention weights
``β``, the vector that a word attends to is ``d_w = sum_r β_rw v_r``. Every inner product of such vectors is a sum over
``s``, ``G`` and ``H``: ``t_w . d_w = sum_r β_rw s_rw``, ``|d_w|² = β_wᵀ G β_w``. So the scores below are exact, and
nothing of the embedding size is made for a pair of image and caption.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from itmatch.ops.checks import check_above_zero, check_choice
from itmatch.ops.compiling import cached_property
from itmatch.ops.masking import LOG2_E
from itmatch.ops.pairs.lengths import SMALLEST, cosine, directed, root
from itmatch.ops.pairs.over_pairs import over_pairs
from itmatch.ops.pairs.sides import Query, check_query
from itmatch.ops.pairs.tiles import PairTile, spent

Normalization = Literal["clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax", "no_norm"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)

_SLOPE = 0.1  # of the leaky ReLU that clips
_NORM_EPSILON = 1e-8  # added to a norm, as in the public code of SCAN
_SAFE = 12.0  # largest logit whose exponential float32 can sum, and square before it is divided, without care

REGIONS, WORDS = 3, 2  # axes of a tile's scores, (i, t, W, R)
_PRODUCT_WORDS = 1  # axis of its products, (t, W, i, R)


def cross_attention(
    image: Tensor,
    image_mask: Tensor | None,
    text: Tensor,
    text_mask: Tensor | None,
    *,
    query: Query = "words",
    temperature: float = 1 / 9,
    normalization: Normalization = "clipped_l2norm",
    chunk_size: int | None = None,
) -> Tensor:
    """Cosine of every word with its attended region vector, or of every region with its attended words.

    Args:
        image: (I, R, D) region embeddings.
        image_mask: (I, R) bool; None = all real.
        text: (T, W, D) word embeddings.
        text_mask: (T, W) bool; None = all real.
        query: ``"words"``: words attend to regions; ``"regions"``: regions attend to words.
        temperature: of the attention, above 0; its inverse is the lambda of the paper.
        normalization: of the inner products before the softmax, over the *queries* of each key.
        chunk_size: images per block; bounds memory. Neither values nor gradients depend on it.

    Returns:
        (I, T, W) for words, (I, T, R) for regions, in at least float32; 0 in the padded positions of the queries.

    Formula:
        ``β_rw = softmax_r(x_rw / temperature)``, ``cos(t_w, sum_r β_rw v_r)``; with ``"clipped_l2norm"``
        ``x_rw = c_rw / (|c_r| + 1e-8)``, ``c = LeakyReLU_0.1(s)``, ``|c_r|`` over the words. Mirrored for regions.

    Source:
        Lee et al., "Stacked Cross Attention for Image-Text Matching", ECCV 2018, and its public code.

    Example:
        >>> image, text = torch.eye(2)[None], torch.tensor([[[1.0, 0.0]]])
        >>> cross_attention(image, None, text, None, temperature=0.01).item() > 0.9999
        True
    """
    check_query(query)
    check_above_zero("temperature", temperature)
    check_normalization(normalization)
    kernel = partial(_attended_cosines, query=query, temperature=temperature, normalization=normalization)
    return over_pairs(kernel, image, image_mask, text, text_mask, output=query, chunk_size=chunk_size)


def soft_alignment(
    image: Tensor,
    image_mask: Tensor | None,
    text: Tensor,
    text_mask: Tensor | None,
    *,
    temperature: float,
    query: Query = "words",
    normalize: bool = False,
    chunk_size: int | None = None,
) -> Tensor:
    """Every word against its attended region (or every region against its attended word), over all pairs.

    As the temperature goes to 0 the result goes to :func:`hard_alignment`. No Gram matrix enters the attention, and
    without ``normalize`` no length either; otherwise this is :func:`cross_attention` with ``"no_norm"``.

    Args:
        image: (I, R, D) region embeddings.
        image_mask: (I, R) bool; None = all real.
        text: (T, W, D) word embeddings.
        text_mask: (T, W) bool; None = all real.
        temperature: of the softmax, above 0.
        query: ``"words"``: softmax over the regions for each word; ``"regions"``: over the words for each region.
        normalize: divide by the length of the attended vector ``c``; with queries of length 1 the result is then
            the cosine of query and ``c`` (the soft coding of CHAN's public code). ``c`` itself is never formed.
        chunk_size: images per block, as in :func:`hard_alignment`.

    Returns:
        (I, T, W) for words, (I, T, R) for regions, in at least float32; 0 in the padded positions of the queries.

    Formula:
        ``p = softmax_r(s[i, t, :, w] / temperature)``, ``a = sum_r p_r s[i, t, r, w]``, and with ``normalize`` that
        over ``|c|``, ``|c|² = pᵀ G p`` with the Gram matrix ``G`` of the image's regions; mirrored for regions.

    Example:
        >>> image, text = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> soft_alignment(image, None, text, None, temperature=0.1).item() > 0.9999
        True
    """
    check_above_zero("temperature", temperature)
    check_query(query)
    kernel = partial(_attended_products, query=query, temperature=temperature, normalize=normalize)
    return over_pairs(kernel, image, image_mask, text, text_mask, output=query, chunk_size=chunk_size)


def attention_weights(
    scores: Tensor,
    query: Query,
    temperature: float,
    normalization: Normalization = "clipped_l2norm",
    region_mask: Tensor | None = None,
    word_mask: Tensor | None = None,
) -> Tensor:
    """(i, t, W, R) weights that sum to 1 over the keys of each query; 0 for padded keys.

    Args:
        scores: (i, t, W, R) inner products, 0 where padded.
        query: what attends.
        temperature: of the softmax.
        normalization: see :func:`cross_attention`.
        region_mask: broadcasts to (i, t, R), None when nothing is padded.
        word_mask: broadcasts to (i, t, W), likewise.
    """
    regions = None if region_mask is None else region_mask[:, :, None]
    words = None if word_mask is None else word_mask[..., None]
    return divided(*Attention(scores, normalization, regions, words).weights(query, temperature))


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention between the two sides of pairs, of either over the other.

    Args:
        scores: (i, t, W, R) or (t, W, i, R) inner products, 0 where padded.
        normalization: see :func:`cross_attention`.
        region_mask: of the regions, broadcasts to the scores; None when nothing is padded.
        word_mask: of the words, likewise.
        words: the axis of the words.
    """

    scores: Tensor
    normalization: Normalization
    region_mask: Tensor | None
    word_mask: Tensor | None
    words: int = WORDS

    @classmethod
    def of_products(cls, tile: PairTile, normalization: Normalization) -> Attention:
        """Of a tile's products (t, W, i, R)."""
        regions, words = tile.region_mask, tile.captions.mask
        regions = None if regions is None else regions.transpose(0, 1)[:, None]
        words = None if words is None else words[..., None, None]
        return cls(tile.products, normalization, regions, words, _PRODUCT_WORDS)

    def weights(self, query: Query, temperature: float) -> tuple[Tensor, Tensor | None]:
        """Weights shaped as the scores, and what they are still to be divided by; None: they sum to 1 over the keys."""
        keys, queries = ((REGIONS, self.region_mask), (self.words, self.word_mask))
        if query == "regions":
            keys, queries = queries, keys
        if self.normalization in ("clipped", "no_norm") or 1 / temperature > _SAFE:
            return softmax_over(self._logits(*queries, 1 / temperature), keys[1], keys[0]), None
        logits = self._logits(*queries, LOG2_E / temperature)
        weights = keep(torch.exp2(logits, out=spent(logits)), keys[1])  # nothing to subtract first; sums are far from 0
        return weights, weights.sum(keys[0], keepdim=True)

    @cached_property
    def _clipped(self) -> Tensor:
        return leaky_relu(self.scores, _SLOPE) if self.normalization.startswith("clipped") else self.scores

    @cached_property
    def _squares(self) -> Tensor:
        return self._clipped.square()

    def _logits(self, axis: int, mask: Tensor | None, scale: float) -> Tensor:
        """Inner products clipped, normalised over the queries, which lie along ``axis``, and scaled."""
        values = self._clipped
        if self.normalization.endswith("l2norm"):
            square = self._squares.sum(axis, keepdim=True)
            return values * _guarded(scale / (root(square) + _NORM_EPSILON), square)
        if self.normalization.endswith("l1norm"):
            total = values.abs().sum(axis, keepdim=True)
            return values * _guarded(scale / (total + _NORM_EPSILON), total)
        return scale * (softmax_over(values, mask, axis) if self.normalization == "softmax" else values)


def check_normalization(normalization: Normalization) -> Normalization:
    """The name itself, if it is one of the normalisations."""
    return check_choice("normalization", normalization, *NORMALIZATIONS)


def softmax_over(logits: Tensor, mask: Tensor | None, axis: int) -> Tensor:
    """Softmax along an axis, 0 where padded; a mask lets something through in every slice."""
    logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
    if torch.is_grad_enabled() or logits.device.type != "cpu":
        return logits.softmax(axis)
    powers = (logits - logits.amax(axis, keepdim=True)).mul_(LOG2_E).exp2_()  # faster than the softmax of few numbers
    return powers.div_(powers.sum(axis, keepdim=True))


def divided(weights: Tensor, totals: Tensor | None) -> Tensor:
    """What :meth:`Attention.weights` gives, as weights that sum to 1; their memory is used again."""
    return weights if totals is None else torch.div(weights, totals, out=spent(weights))


def keep(values: Tensor, mask: Tensor | None) -> Tensor:
    """Finite values, 0 where padded."""
    return values if mask is None else values * mask.to(values.dtype)


def _attended_cosines(tile: PairTile, *, query: Query, temperature: float, normalization: Normalization) -> Tensor:
    """(i, t, W) or (i, t, R)."""
    weights, totals = Attention.of_products(tile, normalization).weights(query, temperature)
    length = tile.captions.squared_lengths if query == "words" else tile.per_image(tile.images.squared_lengths)
    total = None if totals is None else _per_pair(totals, query)
    return cosine(_attended_product(tile, weights, query), length, _attended_square(tile, weights, query), total)


def _attended_products(tile: PairTile, *, query: Query, temperature: float, normalize: bool) -> Tensor:
    """(i, t, W) or (i, t, R)."""
    weights = divided(*Attention.of_products(tile, "no_norm").weights(query, temperature))
    values = _attended_product(tile, weights, query)
    if not normalize:
        return values
    square = _attended_square(tile, weights, query)
    return directed(square) * (values / square.clamp(min=SMALLEST**2).sqrt())


def _attended_product(tile: PairTile, weights: Tensor, query: Query) -> Tensor:
    """Inner product of each query with what it attends to, from weights (t, W, i, R)."""
    axis = REGIONS if query == "words" else _PRODUCT_WORDS
    return _per_pair((weights * tile.products).sum(axis, keepdim=True), query)


def _attended_square(tile: PairTile, weights: Tensor, query: Query) -> Tensor:
    """Squared length of what each query attends to, from weights (t, W, i, R)."""
    if query == "words":
        moved = weights.permute(2, 0, 1, 3)  # in a graph as a copy: else it would hold for some numbers of images alone
        return tile.attended_squares(moved.contiguous() if torch.compiler.is_compiling() else moved)
    met = torch.bmm(tile.captions.gram, weights.flatten(2)).view_as(weights)
    return _per_pair(torch.mul(weights, met, out=spent(met)).sum(_PRODUCT_WORDS, keepdim=True), query)


def _per_pair(values: Tensor, query: Query) -> Tensor:
    """(t, W, i, 1) -> (i, t, W), or (t, 1, i, R) -> (i, t, R)."""
    return values[..., 0].permute(2, 0, 1) if query == "words" else values[:, 0].transpose(0, 1)


def _guarded(factor: Tensor, length: Tensor) -> Tensor:
    """A factor of the numbers that a length is of: it has no gradient where they are 0, and so is the product."""
    return factor * directed(length) if torch.is_grad_enabled() else factor
