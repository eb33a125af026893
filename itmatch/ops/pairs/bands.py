"""All pairs of images and captions, cut into tiles that stay in a cache; one product makes the scores of several tiles.

What is done with a tile runs fast when it finds its numbers in the cache, and captions of one length, which need no
padding, are few; a matrix product wants more rows than that to run at its full rate. So the rows of a side are put into
*groups* of like length, as large as a tile may be, and the groups into *bands*, as large as a product shall be.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from math import ceil, sqrt

import torch
from torch import Tensor

from itmatch.hostcopies import sent
from itmatch.ops.pairs.sides import device_kind
from itmatch.ops.pairs.tiles import FragmentGroup, PairTile, TileRows
from itmatch.ops.ragged import Ragged

_BAND = {"cpu": 1024, "cuda": 8192}  # fragments of one side in a product
_TILE = {"cpu": 1 << 19, "cuda": 1 << 26}  # scores of a tile
_LEAST = {"cpu": 512, "cuda": 4096}  # fragments of the captions of a tile, however many those of its images are
_FEW = {"cpu": 192, "cuda": 4096}  # fragments; a group of fewer takes in rows of other lengths, padded
_PIECES = 2  # pairs of bands for each thread of a CPU, or more
_PADDING = 1.25  # most padded over real fragments of such a group


def band_sizes(images: Ragged, captions: Ragged) -> list[int]:
    """About how many fragments of images and of captions a product has: fewer where threads would have no work."""
    kind = device_kind(images.values)
    pieces = ceil(sqrt(_PIECES * torch.get_num_threads())) if kind == "cpu" else 1
    totals = [int(side.lengths.sum()) for side in (images, captions)]
    return [max(1, min(_BAND[kind], max(_LEAST[kind] // 2, -(-total // pieces)))) for total in totals]


def cut(
    images: Ragged, captions: Ragged, most: tuple[int, int], sizes: list[int]
) -> tuple[list[TileRows], list[TileRows]]:
    """Groups of images and of captions, of at most so many rows. On a CPU only small groups have padding.

    ``sizes`` are those of :func:`band_sizes`, of bands that the groups are put into.
    """
    kind = device_kind(images.values)
    of_images = min(sizes[0], max(1, int(images.lengths.sum())))
    of_captions = min(sizes[1], max(_LEAST[kind], _TILE[kind] // of_images))
    return _groups(images, most[0], of_images), _groups(captions, most[1], of_captions)


class Band:
    """Some groups of a side, and their fragments one after the other, padded in each group.

    Fragments are gathered when somebody first needs them, by one thread.

    Args:
        values: (K, D + S) the fragments of all rows.
        rows: the groups.
        extra: S, numbers beside the fragments.
    """

    def __init__(self, values: Tensor, rows: list[TileRows], extra: int) -> None:
        self.rows, self._values, self._extra = rows, values, extra
        self._lock = threading.Lock()
        self._gathered: tuple[Tensor, list[FragmentGroup]] | None = None

    def gathered(self) -> tuple[Tensor, list[FragmentGroup]]:
        """The fragments (n, D) of all groups, and the groups."""
        with self._lock:
            if self._gathered is None:
                self._gathered = self._gather()
            return self._gathered

    def _gather(self) -> tuple[Tensor, list[FragmentGroup]]:
        places = torch.cat([rows.places for rows in self.rows])
        first = int(places[0]) if len(places) else 0
        padded = any(rows.mask is not None for rows in self.rows)
        if not padded and torch.equal(places, torch.arange(first, first + len(places))):
            packed = self._values[first : first + len(places)]  # as they lie
        else:
            packed = self._values.index_select(0, sent(places, self._values.device))
        groups, start = [], 0
        for rows in self.rows:
            stop = start + len(rows.places)
            part = packed[start:stop].view(len(rows.index), rows.longest, -1)
            if rows.mask is not None:
                part.masked_fill_(~rows.mask[..., None], 0)
            groups.append(FragmentGroup.split(part, rows.mask, self._extra))
            start = stop
        return packed[:, : packed.shape[1] - self._extra], groups


def met(images: Iterator[Band], captions: Iterator[Band], *, hold_images: bool) -> Iterator[tuple[Band, Band]]:
    """All pairs of a band of images and one of captions; the bands of one side are all held, the others one by one."""
    if hold_images:
        held = list(images)
        for band in captions:
            for other in held:
                yield other, band
    else:
        held = list(captions)
        for band in images:
            for other in held:
                yield band, other


def tiles(images: Band, captions: Band) -> Iterator[tuple[TileRows, TileRows, PairTile]]:
    """The tiles of two bands."""
    vectors, image_groups = images.gathered()
    words, text_groups = captions.gathered()
    products: list[Tensor] = []

    def product(across: slice, along: slice) -> Tensor:
        if not products:  # a kernel may do without
            products.append(words @ vectors.T)
        return products[0][across, along]

    across = 0
    for text_rows, text_group in zip(captions.rows, text_groups, strict=True):
        place, along = slice(across, across + len(text_rows.places)), 0
        for image_rows, image_group in zip(images.rows, image_groups, strict=True):
            part = partial(product, place, slice(along, along + len(image_rows.places)))
            yield image_rows, text_rows, PairTile(image_group, text_group, product=part)
            along += len(image_rows.places)
        across = place.stop


def bands(values: Tensor, groups: list[TileRows], extra: int, most: int, size: int) -> Iterator[Band]:
    """Groups in bands of about ``size`` fragments, at most a group more, and of at most ``most`` rows."""
    sizes = [len(rows.places) for rows in groups]
    limit = 0.9 * sum(sizes) / max(1, -(-sum(sizes) // size))  # nearly full is better than a group too many
    start = count = total = 0
    for stop, (rows, fragments) in enumerate(zip(groups, sizes, strict=True)):
        if stop > start and (total >= limit or count + len(rows.index) > most):
            yield Band(values, groups[start:stop], extra)
            start, count, total = stop, 0, 0
        count, total = count + len(rows.index), total + fragments
    if groups:
        yield Band(values, groups[start:], extra)


def _groups(side: Ragged, most: int, limit: int) -> list[TileRows]:
    """Rows of like length, in groups of at most ``limit`` fragments."""
    few = _FEW[device_kind(side.values)]

    def fits(rows: int, shortest: int, longest: int, fragments: int) -> bool:
        if rows > most or rows * longest > limit:
            return False
        before = fragments - longest
        return longest == shortest or (before < few and (rows - 1) * longest <= _PADDING * before)

    return [TileRows.make(rows, side.lengths, side.starts, side.values.device) for rows in side.blocks(fits)]
