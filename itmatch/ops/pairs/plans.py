"""How the pairs of two sides are cut: into tiles of images and captions, or into single pairs with a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from itmatch.hostcopies import sent
from itmatch.ops.pairs.bands import Band, band_sizes, bands, cut
from itmatch.ops.pairs.products import products_of_pairs
from itmatch.ops.pairs.sides import device_kind
from itmatch.ops.pairs.tiles import PairTile, TileRows
from itmatch.ops.ragged import Ragged, at_places

Output = Literal["words", "regions", "pair"]
Kernel: TypeAlias = Callable[..., Tensor]

_MADE = {"cpu": 1 << 19, "cuda": 1 << 26}  # numbers that a kernel makes for a tile, where it says how many
_COPIED = {"cpu": 1 << 20, "cuda": 1 << 26}  # numbers of the fragments of single pairs that are worked on at once


@dataclass(frozen=True, eq=False)
class Side:
    """Where the rows of a side lie among its values, how they are grouped, and how large bands of groups are."""

    lengths: Tensor
    starts: Tensor
    longest: int
    groups: list[TileRows]
    most: int
    band: int

    def bands(self, values: Tensor, extra: int) -> Iterator[Band]:
        """The groups in bands; ``extra`` numbers lie beside each fragment."""
        return bands(values, self.groups, extra, self.most, self.band)

    def rows(self, index: Tensor, device: torch.device) -> TileRows:
        """Some rows."""
        return TileRows.make(index, self.lengths, self.starts, device)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is computed of which pairs; ``extra`` numbers lie beside each region."""

    kernel: Kernel
    output: Output
    extra: int
    images: Side
    captions: Side

    @classmethod
    def make(
        cls,
        kernel: Kernel,
        output: Output,
        extra: int,
        images: Ragged,
        captions: Ragged,
        chunk: int | None,
        numbers: int,
    ) -> Plan:
        """For two sides; ``chunk`` and ``numbers`` are those of :func:`~itmatch.ops.pairs.over_pairs.over_pairs`."""
        most = max(len(images), len(captions))
        if numbers:
            most = max(1, isqrt(_MADE[device_kind(images.values)] // numbers))
        limits = most if chunk is None else min(most, chunk), most
        sizes = band_sizes(images, captions)
        cuts = cut(images, captions, limits, sizes)
        sides = [
            Side(side.lengths, side.starts, side.longest, groups, limit, size)
            for side, groups, limit, size in zip((images, captions), cuts, limits, sizes, strict=True)
        ]
        return cls(kernel, output, extra, *sides)

    def width(self, images: Side | TileRows, captions: Side | TileRows) -> int:
        """Values of a pair of these."""
        return {"words": captions.longest, "regions": images.longest, "pair": 1}[self.output]


@dataclass(frozen=True, eq=False)
class Part:
    """Pairs whose gradient is computed at once, and the incoming gradient (i, t, n) of their values.

    ``image_of`` is that of :class:`~itmatch.ops.pairs.tiles.PairTile`.
    """

    images: TileRows
    captions: TileRows
    grad: Tensor
    image_of: Tensor | None = None

    def tile(self, image: Tensor, text: Tensor, extra: int) -> PairTile:
        """The tile of their regions (k, D + S) and words (n, D), which lie without padding."""
        images, captions = self.images.group(image, extra), self.captions.group(text, 0)
        product = None
        if self.image_of is not None and image.device.type == "cpu":  # elsewhere one product of copies is faster
            product = partial(self._products, image[:, : text.shape[1]], text)
        return PairTile(images, captions, self.image_of, product)

    def _products(self, image: Tensor, text: Tensor) -> Tensor:
        """(t, W, R) of single pairs, on a CPU."""
        assert self.image_of is not None
        words = torch.zeros_like(self.images.lengths).index_add_(0, self.image_of, self.captions.lengths)
        products = products_of_pairs(image, self.images.lengths.tolist(), text, words.tolist())
        mask = self.captions.mask
        return products.view(len(self.image_of), -1, products.shape[1]) if mask is None else at_places(products, mask)


def all_tiles(plan: Plan, grad: Tensor) -> Iterator[Part]:
    """All pairs."""
    for images in plan.images.groups:
        for captions in plan.captions.groups:
            part = grad[images.index[:, None], captions.index, : plan.width(images, captions)]
            yield Part(images, captions, part)


def used_pairs(plan: Plan, grad: Tensor, used: Tensor, size: int) -> Iterator[Part]:
    """Single pairs with a gradient: all of an image together, and images whose longest captions are alike.

    The longest come first, since they take longest: threads are then done at about the same time.
    """
    image, text = used.nonzero().unbind(1)
    regions, words = plan.images.lengths[image], plan.captions.lengths[text]
    longest = torch.zeros(len(used), dtype=torch.int64).scatter_reduce_(0, image, words, "amax")[image]
    order = (longest * (plan.images.longest + 1) + regions).argsort(stable=True, descending=True)
    image, text = image[order], text[order]
    begins = image.diff(prepend=image.new_full((1,), -1)) != 0
    fragments = (words[order] + begins * regions[order]).cumsum(0)
    part = fragments * size // _COPIED[device_kind(grad)]
    counts = torch.unique_consecutive(part, return_counts=True)[1].tolist()
    for images, captions in zip(torch.split(image, counts), torch.split(text, counts), strict=True):
        chosen, image_of = torch.unique_consecutive(images, return_inverse=True)
        rows, columns = plan.images.rows(chosen, grad.device), plan.captions.rows(captions, grad.device)
        part = grad[sent(images, grad.device), columns.index, : plan.width(rows, columns)]
        yield Part(rows, columns, part[None], sent(image_of, grad.device))
