"""Regions of some images of a split, read into one place: what a batch is made of."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from itmatch.batch import Regions, SceneGraph
from itmatch.data.batching.keeping import keep_regions, places_of
from itmatch.formats.arrays import Array
from itmatch.ops.checks import check_place
from itmatch.ops.masking import lengths_to_mask

if TYPE_CHECKING:
    from itmatch.data.split import ImageTextSplit

Keep: TypeAlias = Callable[[Tensor], Tensor]
"""From a mask (I, R) of regions to that of those that are read."""


def read_regions(
    split: ImageTextSplit, images: Sequence[int], keep: Keep | None = None, *, pin_memory: bool = False
) -> Regions:
    """Some images of a split, padded to the longest; one that is asked for twice comes twice.

    Features that are stored as float16 stay float16, others become float32. Each region is copied once, from where it
    is stored to its place in the batch; in a process that loads for another one that is in memory that both see.

    Args:
        split: where they are.
        images: their places in the split, one at least.
        keep: which regions are read; None = all.
        pin_memory: put the features into page-locked memory, from which a GPU copies without waiting.

    Raises:
        ValueError: features hold a NaN or an infinity, or an image has not as many boxes or labels as regions.
    """
    where = f"{split.name}: image"
    stored = {image: split.features[check_place(where, image, split.num_images)] for image in set(images)}
    rows = [stored[image] for image in images]
    counts = np.array([len(row) for row in rows], np.int64)
    if split.lengths is not None:
        counts = np.minimum(counts, np.asarray(split.lengths[images], np.int64))
    regions = described(split, images, counts)
    places = None
    if keep is not None:
        kept = keep(regions.mask)
        places, regions = places_of(kept)[0].numpy(), keep_regions(regions, kept)
    half = {row.dtype for row in rows if len(row)} == {np.dtype(np.float16)}
    shape = (*regions.mask.shape, split.feature_dim)
    regions.features = _buffer(shape, torch.float16 if half else torch.float32, pin_memory=pin_memory)
    lengths = regions.mask.sum(1).tolist()
    for number, (target, row, length) in enumerate(zip(regions.features.numpy(), rows, lengths, strict=True)):
        if counts[number]:
            _copy(row, None if places is None else places[number, :length], target[:length])
            if not _is_finite(target[:length]):
                _check_finite(split, images[number], row[: counts[number]])
        target[length if counts[number] else 0 :] = 0
    return regions


def described(split: ImageTextSplit, images: Sequence[int], counts: Array, *, boxes: bool = True) -> Regions:
    """All that a split knows of the regions of some images but their features, in the place of which are none.

    An image in which nothing was detected gets one region of zeros, so that every image has one.

    Args:
        split: where it is.
        images: their places in the split.
        counts: (I,) the regions of each; 0 where nothing was detected.
        boxes: whether boxes are read too.
    """
    if split.lengths is None and not counts.all():  # else they have been told of
        warnings.warn(f"{split.name}: images without regions get one of zeros", stacklevel=4)
    mask = lengths_to_mask(torch.from_numpy(np.maximum(counts, 1)))
    detected = mask & torch.from_numpy(counts > 0)[:, None]
    return Regions.unchecked(
        torch.empty(*mask.shape, 0),
        mask,
        _column(split, "boxes", images, counts, detected).clamp_(0, 1) if boxes and split.boxes is not None else None,
        None if split.labels is None else _column(split, "labels", images, counts, detected),
        None if split.relations is None else _graph(split, images, counts),
    )


_COLUMNS: dict[str, tuple[type, int]] = {"boxes": (np.float32, 0), "labels": (np.int64, -1)}  # and what pads them


def _column(split: ImageTextSplit, name: str, images: Sequence[int], counts: Array, detected: Tensor) -> Tensor:
    """(I, R, ...) boxes or labels of the regions that were detected."""
    column: Array = getattr(split, name)
    room = column.shape[1]
    if counts.max() > room:
        first = int((counts > room).argmax())
        image = split.image_ids[images[first]]
        raise ValueError(f"{split.name}: image {image!r} has {counts[first]} regions and {room} {name}")
    dtype, fill = _COLUMNS[name]
    values = np.full((*detected.shape, *column.shape[2:]), fill, dtype)
    values[:, :room] = column[images][:, : detected.shape[1]]
    values[~detected.numpy()] = fill
    return torch.from_numpy(values)


def _graph(split: ImageTextSplit, images: Sequence[int], counts: Array) -> SceneGraph:
    assert split.relations is not None
    table = np.asarray(split.relations[images], np.int64)  # (I, K, 3)
    row, place = (table != -1).all(-1).nonzero()
    edges = table[row, place]  # (E, 3)
    outside = (edges[:, ::2] >= counts[row, None]).any(-1)
    if outside.any():  # files of unequal length are not checked before
        first = int(row[outside.argmax()])
        raise ValueError(
            f"{split.name}: image {split.image_ids[images[first]]!r} has {counts[first]} regions, a relation names "
            "another"
        )
    scores = None if split.relation_scores is None else split.relation_scores[images][row, place].astype(np.float32)
    return SceneGraph.unchecked(
        torch.from_numpy(np.ascontiguousarray(edges[:, ::2].T)),
        torch.from_numpy(row),
        len(images),
        torch.from_numpy(edges[:, 1].copy()),
        None if scores is None else torch.from_numpy(scores),
    )


def _copy(row: Array, places: Array | None, target: Array) -> None:
    """Copy regions of an image: the first ones, or those of some places."""
    if places is not None and row.dtype == target.dtype:
        np.take(row, places, 0, target, mode="clip")  # which, unlike "raise", copies once
        return
    with np.errstate(over="ignore"):
        target[:] = row[: len(target)] if places is None else row[places]


def _check_finite(split: ImageTextSplit, image: int, features: Array) -> None:
    """Raise if a region of an image is not finite as it is read."""
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(features.astype(np.float32)).all(-1))
    if len(bad):
        region = int(bad[0])
        what = f"{features.dtype} too large for float32" if np.isfinite(features[region]).all() else "NaN or inf"
        name = split.image_ids[image]
        raise ValueError(f"{split.name}: image {name!r} region {region}: {what} in the features")


def _is_finite(values: Array) -> bool:
    """Whether there is no NaN and no infinity; also False for large numbers whose sum is not finite."""
    if values.dtype == np.float16:  # of an infinity or a NaN all bits of the exponent are set
        return bool(values.view(np.int16).max() < 0x7C00 and values.view(np.uint16).max() < 0xFC00)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()))


def _buffer(shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool) -> Tensor:
    """Room for the features of a batch."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype, pin_memory=pin_memory)
    return shared_zeros(shape, dtype)


def shared_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros in host memory that other processes see."""
    size = math.prod(shape) * dtype.itemsize
    storage = torch.UntypedStorage._new_shared(size, device="cpu")  # type: ignore[no-untyped-call] # as torch's own collate
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload,no-any-return]
