"""Regions of a split that lie on a device as a whole, so that batches carry only where theirs stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from itmatch.batch import Regions
from itmatch.data.batching.keeping import keep_regions, places_of
from itmatch.data.reading import Keep, described, read_regions, shared_zeros
from itmatch.data.sources.features import ArrayFeatures

if TYPE_CHECKING:
    from itmatch.data.split import ImageTextSplit

_AT_A_TIME = 256  # images that are read on the way to the device


@dataclass(eq=False, repr=False)
class RegionRows(Regions):
    """Regions whose features and boxes lie on a device; of size 0 here, until :class:`ResidentRegions` adds them.

    Args:
        rows: (I,) int64, place of each image.
        places: (I, R) int64, places of the regions of each; None = the first ones.
        resident: name of what holds them.
    """

    rows: Tensor = None  # type: ignore[assignment] # always given
    places: Tensor | None = None
    resident: str = ""


def region_rows(split: ImageTextSplit, images: Sequence[int], keep: Keep | None, resident: str) -> RegionRows:
    """All that a batch has to carry where the features of a split are on the device; as :func:`read_regions`."""
    room = split.features.num_regions
    counts = np.full(len(images), room) if split.lengths is None else np.asarray(split.lengths[images], np.int64)
    regions = described(split, images, counts, boxes=False)
    places = None
    if keep is not None:
        kept = keep(regions.mask)
        places, regions = places_of(kept)[0], keep_regions(regions, kept)
    return RegionRows.unchecked(
        regions.features,
        regions.mask,
        None,
        regions.labels,
        regions.graph,
        torch.tensor(images),
        places,
        resident,
    )


class ResidentRegions:
    """The features and boxes of all images of a split, on one device.

    Args:
        split: is read once, and checked on the way. Its features lie in one array.
        device: where.
        shared: in host memory that other processes see, without a copy of their own.

    Example:
        >>> import numpy as np
        >>> from itmatch.data.split import ImageTextSplit
        >>> split = ImageTextSplit(np.ones((5, 36, 8), np.float16))
        >>> held = ResidentRegions(split, torch.device("cpu"))
        >>> held.regions(region_rows(split, [4, 1, 4], None, "train"))
        Regions(features (3, 36, 8) float16, mask (3, 36) bool)
    """

    def __init__(self, split: ImageTextSplit, device: torch.device, *, shared: bool = False) -> None:
        (images, regions, size), dtype = shape_of(split)
        rows = images * regions + 1  # the last one, of zeros, is what padding is gathered from
        self._rows = (
            shared_zeros((rows, size), dtype) if shared else torch.zeros(rows, size, dtype=dtype, device=device)
        )
        self._boxes = None if split.boxes is None else torch.zeros(rows, 4, device=device)
        self.features = self._rows[:-1].view(images, regions, size)
        boxes = None if self._boxes is None else self._boxes[:-1].view(images, regions, 4)
        for start in range(0, images, _AT_A_TIME):
            places = range(start, min(start + _AT_A_TIME, images))
            part = read_regions(split, places)
            self.features[start : places.stop, : part.mask.shape[1]] = part.features.to(device)
            if boxes is not None and part.boxes is not None:
                boxes[start : places.stop, : part.mask.shape[1]] = part.boxes.to(device)

    def regions(self, chosen: RegionRows) -> Regions:
        """The regions that rows stand for, which are on the device."""
        room = self.features.shape[1]
        places = chosen.places
        if places is None:
            places = torch.arange(chosen.mask.shape[1], device=chosen.mask.device)[None]
        rows = torch.where(chosen.mask, chosen.rows[:, None] * room + places, len(self._rows) - 1).flatten()
        features, boxes = (
            None if values is None else values.index_select(0, rows).view(*chosen.mask.shape, -1)
            for values in (self._rows, self._boxes)
        )
        return Regions.unchecked(features, chosen.mask, boxes, chosen.labels, chosen.graph)


class SharedFeatures(ArrayFeatures):
    """The features of a split in one tensor in host memory, which a process that loads is not sent a copy of.

    Args:
        features: (N, R, F) float16 or float32; in shared memory, or else for processes that are forked.
        name: for error messages.
    """

    def __init__(self, features: Tensor, *, name: str = "features") -> None:
        super().__init__(features.numpy(), name=name)
        self._tensor = features

    def __getstate__(self) -> dict[str, Any]:
        """The tensor, which torch knows how to share, in the place of its numbers."""
        return {key: value for key, value in self.__dict__.items() if key != "_array"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See the same numbers."""
        self.__dict__.update(state, _array=state["_tensor"].numpy())


def shape_of(split: ImageTextSplit) -> tuple[tuple[int, int, int], torch.dtype]:
    """Shape (N, R, F) and type of all features of a split as they are read.

    Raises:
        ValueError: they do not lie in one array.
    """
    if not isinstance(split.features, ArrayFeatures):
        found = type(split.features).__name__
        raise ValueError(
            f"{split.name}: features are read image by image ({found}), expected one array, as `itmatch data "
            "convert` writes it"
        )
    dtype = torch.float16 if split.features.dtype == np.float16 else torch.float32
    return (split.num_images, split.features.num_regions, split.feature_dim), dtype
