"""What a function of pairs works on: a tile of images and captions, with the inner products of their fragments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itmatch.hostcopies import on_host, real_places, sent
from itmatch.ops.compiling import cached_property
from itmatch.ops.masking import at_least_float32, lengths_to_mask
from itmatch.ops.pairs.lengths import directed, root, squared_lengths
from itmatch.ops.pairs.products import gram
from itmatch.ops.ragged import at_places


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
        return squared_lengths(self.vectors)

    @cached_property
    def with_sum(self) -> Tensor:
        """(n, L) inner products of the fragments with the sum of those of their row."""
        return torch.bmm(self.vectors.sum(1, keepdim=True), self.vectors.transpose(1, 2))[:, 0]  # fast, this way round

    @cached_property
    def per_sum(self) -> Tensor:
        """(n, 1) one over the length of the sum of the fragments of a row, 0 where it is 0."""
        square = self.with_sum.sum(1, keepdim=True)
        return directed(square) / root(square)

    @cached_property
    def gram(self) -> Tensor:
        """(n, L, L) inner products of the fragments of a row."""
        return at_least_float32(gram(self.features))


class PackedGroup(FragmentGroup):
    """A group whose fragments lie without padding, (k, D + S); padding is put in where somebody asks for it.

    Args:
        packed: the fragments, row after row.
        mask: (n, L), where they belong.
        extra: S, values beside the fragments.
    """

    packed: Tensor
    mask: Tensor

    def __init__(self, packed: Tensor, mask: Tensor, extra: int) -> None:
        size = packed.shape[1] - extra
        values = at_places(at_least_float32(packed[:, size:]), mask) if extra else None
        for name, value in {"packed": packed[:, :size], "mask": mask, "values": values}.items():
            object.__setattr__(self, name, value)

    @cached_property
    def features(self) -> Tensor:
        """(n, L, D) the fragments, zero where padded."""
        return at_places(self.packed, self.mask)

    @cached_property
    def squared_lengths(self) -> Tensor:
        """(n, L) of the fragments."""
        return at_places(squared_lengths(at_least_float32(self.packed)), self.mask)


@dataclass(frozen=True, eq=False)
class PairTile:
    """What a kernel works on: i images with t captions each, or t single pairs, then i = 1.

    What it knows of images goes through :meth:`per_image` or another method of the tile: captions of single pairs may
    share an image.

    Tensors of a tile are laid out as (i, t, W, R), contiguous, so that products with the Gram matrices of regions are
    large and those a pair are batched without a copy. A kernel that has no such product takes :attr:`products` as they
    are, (t, W, i, R): sums over the words are faster there, and so are products with the Gram matrices of words.

    Args:
        images: i images, or all that single pairs have.
        captions: t captions.
        image_of: (t,) the image of each caption in single pairs, in ascending order; None: all images meet all
            captions.
        product: gives (t W, i R), the inner products of words and regions, where they are made for many tiles at once,
            and (t, W, R) those of single pairs.
    """

    images: FragmentGroup
    captions: FragmentGroup
    image_of: Tensor | None = None
    product: Callable[[], Tensor] | None = None

    @cached_property
    def products(self) -> Tensor:
        """(t, W, i, R) inner products of words and regions, in the order in which one product gives them."""
        return self._multiplied() if self.image_of is None else self.scores[0].unsqueeze(2)

    @cached_property
    def scores(self) -> Tensor:
        """(i, t, W, R) inner products of words and regions; 0 where padded."""
        if self.image_of is None:
            return self._multiplied().permute(2, 0, 1, 3).contiguous()
        if self.product is not None:
            return at_least_float32(self.product())[None]
        images, captions = self.images.features, self.captions.features  # copies, unless somebody knows better
        return at_least_float32(torch.bmm(captions, images.index_select(0, self.image_of).transpose(1, 2)))[None]

    def _multiplied(self) -> Tensor:
        images, captions = self.images.features, self.captions.features
        product = captions.flatten(0, 1) @ images.flatten(0, 1).T if self.product is None else self.product()
        return at_least_float32(product).view(*captions.shape[:2], *images.shape[:2])

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
        return values[:, None] if self.image_of is None else values.index_select(0, self.image_of)[None]

    def attended(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """(i, t, n, D): sums of vectors of the regions (images, R, D), with weights (i, t, n, R)."""
        if self.image_of is not None:
            return torch.bmm(weights[0], vectors.index_select(0, self.image_of))[None]
        return torch.bmm(weights.flatten(1, 2), vectors).view(*weights.shape[:3], -1)

    def times_region_gram(self, weights: Tensor) -> Tensor:
        """(i, t, n, R): inner products of weighted sums of regions with the regions, from their weights."""
        gram = self.images.gram if self.image_of is None else self.images.gram.index_select(0, self.image_of)
        return torch.bmm(weights.view(gram.shape[0], -1, weights.shape[3]), gram).view_as(weights)

    def attended_squares(self, weights: Tensor) -> Tensor:
        """(i, t, n): squared lengths of weighted sums of regions, from their weights (i, t, n, R)."""
        if self.image_of is not None and weights[..., 0].numel() < self.images.features[..., 0].numel() // 2:
            return self.attended(weights, self.images.vectors).square().sum(3)  # fewer products than for Gram matrices
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

    def packed(self, values: Tensor) -> Tensor:
        """(k, D) their fragments among those of all rows (K, D), without padding."""
        return values.index_select(0, sent(self._real, values.device))

    def group(self, packed: Tensor, extra: int) -> FragmentGroup:
        """The rows, from their fragments without padding."""
        if self.mask is None:
            return FragmentGroup.split(packed.view(len(self.index), self.longest, -1), None, extra)
        return PackedGroup(packed, self.mask, extra)

    def add_to(self, total: Tensor, gradient: Tensor) -> None:
        """Add the gradient (k, D) of their fragments, without padding, where these lie in (K, D)."""
        total.index_add_(0, sent(self._real, total.device), gradient)

    @cached_property
    def lengths(self) -> Tensor:
        """(n,) numbers of their fragments, on the CPU."""
        return torch.full((len(self.index),), self.longest) if self.mask is None else on_host(self.mask).sum(1)

    @cached_property
    def _real(self) -> Tensor:
        return self.places if self.mask is None else self.places.index_select(0, real_places(on_host(self.mask)))
