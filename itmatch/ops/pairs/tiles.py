"""What a function of pairs works on: a tile of images and captions, with the inner products of their fragments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itmatch.hostcopies import sent
from itmatch.ops.compiling import cached_property
from itmatch.ops.masking import at_least_float32, lengths_to_mask


def spent(values: Tensor) -> Tensor | None:
    """Memory for a result, of values that nobody reads again; None where a gradient may want them."""
    return None if torch.is_grad_enabled() else values


@dataclass(frozen=True, eq=False)
class FragmentGroup:
    """Some images or captions: fragments (n, L, D), zero where padded, and mask (n, L), None if nothing is padded.

    ``values`` are numbers (n, L, S) beside the fragments, or None.
    """

    features: Tensor
    mask: Tensor | None
    values: Tensor | None = None

    @classmethod
    def split(cls, features: Tensor, mask: Tensor | None, extra: int) -> FragmentGroup:
        """Of fragments whose last ``extra`` numbers are values beside them."""
        if not extra:
            return cls(features, mask)
        return cls(features[..., :-extra], mask, at_least_float32(features[..., -extra:]))

    @cached_property
    def vectors(self) -> Tensor:
        """(n, L, D) the fragments in at least float32, for layers on them; products want ``features``."""
        return at_least_float32(self.features)

    @cached_property
    def squared_lengths(self) -> Tensor:
        """(n, L) of the fragments."""
        return self.vectors.square().sum(2)

    @cached_property
    def with_sum(self) -> Tensor:
        """(n, L) inner products of the fragments with the sum of those of their row."""
        return torch.bmm(self.vectors.sum(1, keepdim=True), self.vectors.transpose(1, 2))[:, 0]  # fast, this way round

    @cached_property
    def gram(self) -> Tensor:
        """(n, L, L) inner products of the fragments of a row."""
        return at_least_float32(torch.bmm(self.features, self.features.transpose(1, 2)))


@dataclass(frozen=True, eq=False)
class PairTile:
    """What a kernel works on: i images with t captions each, or t single pairs, then i = 1.

    Tensors of a tile are laid out as (i, t, W, R), contiguous, so that products with the Gram matrices of regions are
    large and those a pair are batched without a copy.

    Args:
        images: i images, or those of the t single pairs.
        captions: t captions.
        single: every caption has an image of its own.
        product: gives (t W, i R), the inner products of words and regions, where they are made for many tiles at once.
    """

    images: FragmentGroup
    captions: FragmentGroup
    single: bool
    product: Callable[[], Tensor] | None = None

    @cached_property
    def scores(self) -> Tensor:
        """(i, t, W, R) inner products of words and regions; 0 where padded."""
        images, captions = self.images.features, self.captions.features
        t, w, _ = captions.shape
        if self.single:
            return at_least_float32(torch.bmm(captions, images.transpose(1, 2)))[None]
        product = captions.flatten(0, 1) @ images.flatten(0, 1).T if self.product is None else self.product()
        product = product.view(t, w, *images.shape[:2]).permute(2, 0, 1, 3)
        return at_least_float32(product).contiguous()

    @cached_property
    def word_gram(self) -> Tensor:
        """(i t, W, W) inner products of the words of every pair."""
        gram = self.captions.gram
        return gram.expand(self.scores.shape[0], *gram.shape).reshape(-1, *gram.shape[1:])

    @property
    def region_mask(self) -> Tensor | None:
        """Broadcasts to (i, t, R); None when no region is padded."""
        return None if self.images.mask is None else self.per_image(self.images.mask)

    @property
    def word_mask(self) -> Tensor | None:
        """(1, t, W), broadcasts to (i, t, W); None when no word is padded."""
        return None if self.captions.mask is None else self.captions.mask[None]

    def per_image(self, values: Tensor) -> Tensor:
        """(images, n) values of images, to broadcast over captions: (i, 1, n), or (1, t, n) of single pairs."""
        return values[None] if self.single else values[:, None]

    def times_region_gram(self, weights: Tensor) -> Tensor:
        """(i, t, n, R): inner products of weighted sums of regions with the regions, from their weights."""
        gram = self.images.gram
        return torch.bmm(weights.view(gram.shape[0], -1, weights.shape[3]), gram).view_as(weights)

    def attended_squares(self, weights: Tensor) -> Tensor:
        """(i, t, n): squared lengths of weighted sums of regions, from their weights (i, t, n, R)."""
        if self.single and weights.shape[2] <= weights.shape[3]:  # fewer products than the Gram matrix of every pair
            return torch.bmm(weights[0], self.images.vectors).square().sum(2)[None]
        met = self.times_region_gram(weights)
        return torch.mul(weights, met, out=spent(met)).sum(3)

    def times_word_gram(self, weights: Tensor) -> Tensor:
        """(i, t, W, n): inner products of weighted sums of words with the words, from their weights."""
        return torch.bmm(self.word_gram, weights.flatten(0, 1)).view_as(weights)


@dataclass(frozen=True, eq=False)
class TileRows:
    """Rows of one side that are worked on together, padded to the longest of them.

    Args:
        index: (n,) their numbers.
        longest: fragments of the longest.
        mask: (n, longest) bool, None if nothing is padded.
        places: (n longest,) int64 on the CPU: where their fragments lie among those of all rows; 0 where padded.
    """

    index: Tensor
    longest: int
    mask: Tensor | None
    places: Tensor

    @classmethod
    def make(cls, rows: Tensor, lengths: Tensor, starts: Tensor, device: torch.device) -> TileRows:
        """Of the rows with these numbers, and the lengths and starts of all rows; all of them are on the CPU."""
        chosen = lengths[rows]
        longest = int(chosen.max()) if len(chosen) else 0
        real = lengths_to_mask(chosen, longest)
        places = (starts[rows, None] + torch.arange(longest)).where(real, 0).flatten()
        mask = None if bool(real.all()) else sent(real, device)
        return cls(sent(rows, device), longest, mask, places)

    def of(self, values: Tensor) -> Tensor:
        """(n, longest, D) their fragments among those of all rows (K, D); 0 where padded."""
        features = values.index_select(0, sent(self.places, values.device)).view(len(self.index), self.longest, -1)
        return features if self.mask is None else features.masked_fill_(~self.mask[..., None], 0)

    def add_to(self, total: Tensor, gradient: Tensor) -> None:
        """Add what belongs to their fragments (n, longest, D) where these lie in (K, D); nothing where padded."""
        if self.mask is not None:
            gradient = gradient.masked_fill(~self.mask[..., None], 0)
        total.index_add_(0, sent(self.places, total.device), gradient.flatten(0, 1))
