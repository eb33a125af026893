"""Interactive attention over all pairs: regions and words refine each other, then they are compared.

Notation, for one pair: regions ``v_r`` and words ``t_w``, inner products ``s``, attention weights ``alpha`` (over the
words, for each region) and ``beta`` (over the regions, for each word), attended vectors ``c_r = sum_w alpha_rw t_w``
and ``d_w = sum_r beta_rw v_r``. All that follows from the refined fragments ``v' = v + gamma c``, ``t' = t + delta d``
follows from ``s`` and the two Gram matrices: no vector of the embedding size is made for a pair.

Tensors are laid out as in :class:`~itmatch.ops.pairs.tiles.PairTile`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, addcmul

from itmatch.ops.compiling import cached_property
from itmatch.ops.pairs.attention import REGIONS, WORDS, Attention, divided, keep, softmax_over
from itmatch.ops.pairs.lengths import cosine
from itmatch.ops.pairs.tiles import PairTile, spent


@dataclass(frozen=True, eq=False)
class Attended:
    """Attention both ways, and the inner products of attended vectors with fragments of their own side.

    Args:
        tile: the pairs.
        alpha: (i, t, W, R), sums to 1 over the words.
        beta: (i, t, W, R), sums to 1 over the regions, unless they are scaled.
    """

    tile: PairTile
    alpha: Tensor
    beta: Tensor

    @classmethod
    def of(
        cls,
        tile: PairTile,
        region_temperature: float,
        word_temperature: float,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> Attended:
        """Attention with two temperatures, of regions and of words as queries.

        ``scale`` gives factors (i, t, 1, R) of the regions that words attend to, from ``alpha``.
        """
        regions = None if tile.region_mask is None else tile.region_mask[:, :, None]
        words = None if tile.word_mask is None else tile.word_mask[..., None]
        attention = Attention(tile.scores, "clipped_l2norm", regions, words)
        alpha = keep(divided(*attention.weights("regions", region_temperature)), regions)
        beta = keep(divided(*attention.weights("words", word_temperature)), words)
        return cls(tile, alpha, beta if scale is None else torch.mul(beta, scale(alpha), out=spent(beta)))

    @cached_property
    def words(self) -> Tensor:
        """(i, t, W, R): ``t_w . c_r``."""
        return self.tile.times_word_gram(self.alpha)

    @cached_property
    def regions(self) -> Tensor:
        """(i, t, W, R): ``d_w . v_r``."""
        return self.tile.times_region_gram(self.beta)


def _diagonals(products: Tensor) -> Tensor:
    """(n, L) of matrices (n, L, L)."""
    return products.diagonal(dim1=1, dim2=2)


def object_sentence_weights(tile: PairTile, alpha: Tensor, gamma: Tensor, temperature: float) -> Tensor:
    """(i, t, R) softmax over the refined regions, by their products with the direction of the mean word."""
    captions = tile.captions
    refined = addcmul(tile.scores, alpha, (gamma * captions.with_sum)[..., None])  # with each word
    logits = refined.sum(WORDS) * (captions.per_sum / temperature)
    return softmax_over(logits, tile.region_mask, 2)


def word_image_weights(tile: PairTile, beta: Tensor, delta: Tensor, temperature: float) -> Tensor:
    """(i, t, W) softmax over the refined words, by their products with the direction of the mean region."""
    images = tile.images
    refined = addcmul(tile.scores, beta, tile.per_image(delta * images.with_sum)[:, :, None])  # with each region
    logits = refined.sum(REGIONS) * tile.per_image(images.per_sum / temperature)
    return softmax_over(logits, tile.word_mask, 2)


@dataclass(frozen=True, eq=False)
class RefinedCosines:
    """Cosines of ``v' = v + gamma c`` and ``t' = t + delta d``, from inner products alone.

    What the refined vectors attend to is ``sum_r beta_rw v'_r = d_w + gamma e_w`` and
    ``sum_w alpha_rw t'_w = c_r + delta f_r`` with ``e_w = sum_r beta_rw c_r``, ``f_r = sum_w alpha_rw d_w``. Their
    inner products come from products of small matrices, (W, R) x (R, W) and (W, W) x (W, R), for a pair.

    Args:
        tile: the pairs.
        attended: their attention.
        gamma: (1,) factor of what the regions attend to.
        delta: (1,) factor of what the words attend to.
    """

    tile: PairTile
    attended: Attended
    gamma: Tensor
    delta: Tensor

    @cached_property
    def _met(self) -> Tensor:
        """(i t, W, 2 W): ``_mixed`` and ``_met_words`` beside each other, since two small products take longer."""
        others = torch.cat((self.attended.alpha, self.tile.scores), WORDS)
        return torch.bmm(self.attended.beta.flatten(0, 1), others.flatten(0, 1).transpose(1, 2))

    @property
    def _mixed(self) -> Tensor:
        """(i t, W, W): ``sum_r beta_rw alpha_rw'``, weights of the words in ``e_w``."""
        return self._met[..., : self.tile.scores.shape[WORDS]]

    @property
    def _met_words(self) -> Tensor:
        """(i t, W, W): ``d_w . t_w'``."""
        return self._met[..., self.tile.scores.shape[WORDS] :]

    def word_cosines(self) -> Tensor:
        """(i, t, W): ``cos(t'_w, sum_r beta_rw v'_r)``."""
        gamma, delta, mixed, met = self.gamma, self.delta, self._mixed, self._met_words
        length, d_d = self.tile.captions.squared_lengths, self.tile.attended_squares(self.attended.beta)
        shape = d_d.shape
        e_t = torch.bmm(mixed, self.tile.word_gram)  # (i t, W, W): e_w . t_w'
        t_d, t_e = _diagonals(met).reshape(shape), _diagonals(e_t).reshape(shape)
        e_e, d_e = (mixed * e_t).sum(2).view(shape), (mixed * met).sum(2).view(shape)
        product = addcmul(addcmul(t_d, gamma, t_e), delta, addcmul(d_d, gamma, d_e))
        length = addcmul(length, delta, torch.add(delta * d_d, t_d, alpha=2))
        return cosine(product, length, addcmul(d_d, gamma, torch.add(gamma * e_e, d_e, alpha=2)))

    def region_cosines(self) -> Tensor:
        """(i, t, R): ``cos(v'_r, sum_w alpha_rw t'_w)``."""
        alpha, gamma, delta = self.attended.alpha, self.gamma, self.delta
        v_c, c_c = (alpha * self.tile.scores).sum(WORDS), (alpha * self.attended.words).sum(WORDS)
        length = self.tile.per_image(self.tile.images.squared_lengths)
        beta, pairs = self.attended.beta.flatten(0, 1), alpha.flatten(0, 1)
        d_d = torch.bmm(beta, self.attended.regions.flatten(0, 1).transpose(1, 2))  # (i t, W, W): d_w . d_w'
        v_f = (alpha * self.attended.regions).sum(WORDS)
        c_f = (alpha * torch.bmm(self._met_words, pairs).view_as(alpha)).sum(WORDS)
        f_f = (alpha * torch.bmm(d_d, pairs).view_as(alpha)).sum(WORDS)
        product = addcmul(addcmul(v_c, delta, v_f), gamma, addcmul(c_c, delta, c_f))
        length = addcmul(length, gamma, torch.add(gamma * c_c, v_c, alpha=2))
        return cosine(product, length, addcmul(c_c, delta, torch.add(delta * f_f, c_f, alpha=2)))

    def cross_level_cosine(self, temperature: float) -> Tensor:
        """(i, t): cosine of the refined regions as the sentence weighs them and the refined words as the image does."""
        tile, gamma, delta = self.tile, self.gamma, self.delta
        pi = object_sentence_weights(tile, self.attended.alpha, gamma, temperature)[:, :, None]  # (i, t, 1, R)
        rho = word_image_weights(tile, self.attended.beta, delta, temperature)[:, :, None]  # (i, t, 1, W)
        a = pi @ self.attended.alpha.transpose(2, 3)  # v* = sum_r pi_r v_r + gamma sum_w a_w t_w
        b = rho @ self.attended.beta  # t* = sum_w rho_w t_w + delta sum_r b_r v_r
        regions, words = torch.cat((pi, b), 2), torch.cat((rho, a), 2)  # (i, t, 2, R), (i, t, 2, W)
        met = words @ tile.scores @ regions.transpose(2, 3)  # (i, t, 2, 2)
        of_regions = tile.times_region_gram(regions) @ regions.transpose(2, 3)
        of_words = torch.bmm(words.flatten(0, 1), tile.word_gram).view_as(words) @ words.transpose(2, 3)
        product = met[..., 0, 0] + delta * of_regions[..., 0, 1]
        product = product + gamma * (of_words[..., 0, 1] + delta * met[..., 1, 1])
        image = of_regions[..., 0, 0] + gamma * (2 * met[..., 1, 0] + gamma * of_words[..., 1, 1])
        text = of_words[..., 0, 0] + delta * (2 * met[..., 0, 1] + delta * of_regions[..., 1, 1])
        return cosine(product, image, text)
