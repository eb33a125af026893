"""What a photo's regions are in a file of any layout, and what a reader of a layout has to give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itmatch.formats.arrays import Array
from itmatch.formats.messages import shown, shown_keys

Grid = Literal["channels_last", "channels_first"]

# the names that public code gives them, most of them from bottom-up-attention, its ports, LXMERT, UNITER and mmf
FEATURES = ("features", "x", "image_features", "image_feat", "feature", "feat", "att_feats", "fc_feats")
BOXES = ("boxes", "bbox", "bboxes", "image_bb", "image_bboxes", "norm_bb")
WIDTHS, HEIGHTS = ("image_w", "img_w", "image_width", "width"), ("image_h", "img_h", "image_height", "height")
LABELS = ("objects_id", "object_ids", "obj_id", "labels", "objects")
IDS = ("ids", "image_ids", "image_id", "img_ids", "img_id")
COUNTS = ("num_bbox", "num_boxes", "lengths")
MOST_BYTES = 256 << 20  # of one photo's regions: 100 of 2048 numbers take less than one of these MB
MOST_REGIONS = 100_000


@dataclass(frozen=True, eq=False)
class RegionRecord:
    """One photo as a file holds it.

    Args:
        name: what the file calls it.
        features: (R, F) numbers; R may be 0, where nothing was detected.
        boxes: (R, 4) x1 y1 x2 y2, in pixels or as fractions; None = unknown.
        size: width and height in pixels; None = unknown.
        labels: (R,) int object classes; None = unknown.
    """

    name: str
    features: Array
    boxes: Array | None = None
    size: tuple[float, float] | None = None
    labels: Array | None = None


class RegionReader(ABC):
    """Photos and their regions, from files of one layout; a photo is read when it is asked for.

    Attributes:
        names: what the files call the photos, in their order.
        counts: regions of each photo.
    """

    names: list[str]
    counts: list[int]

    @abstractmethod
    def read(self, index: int) -> RegionRecord:
        """One photo.

        Raises:
            ValueError: its part of the file is no good; names the file, the line or key, and what was expected.
        """

    def __len__(self) -> int:
        return len(self.names)


def first_of(content: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of some names that is there, or None."""
    return next((content[name] for name in names if name in content), None)


def record_of(name: str, content: Mapping[str, Any], where: str, grid: Grid | None = None) -> RegionRecord:
    """The photo that arrays and numbers of the usual names are.

    Raises:
        ValueError: there are no features among them, or their shapes do not agree.
    """
    features = first_of(content, FEATURES)
    if features is None:
        raise ValueError(f"{where}: no features; found {shown_keys(content)}, expected one of {', '.join(FEATURES)}")
    features = np.asarray(features)
    boxes = first_of(content, BOXES)
    boxes = None if boxes is None else np.atleast_1d(boxes)
    turned = features.ndim == 2 and boxes is not None and features.shape[0] != len(boxes) == features.shape[1]
    features = features.T if turned else regions_of(features, where, grid)  # older files hold a column per region
    count = first_of(content, COUNTS)
    if count is not None:
        given = np.asarray(count)
        if given.size != 1 or given.dtype.kind not in "iu" or not 0 <= given.item() <= len(features):
            raise ValueError(
                f"{where}: {shown(given.tolist())} boxes, expected a number of up to {len(features)}, its regions"
            )
        features = features[: given.item()]  # the rest is padding
        boxes = None if boxes is None else boxes[: given.item()]
    labels = first_of(content, LABELS)
    labels = None if labels is None else np.asarray(labels)
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        labels = None  # the words, or the probabilities of the classes
    return RegionRecord(
        name,
        features,
        None if boxes is None else checked_boxes(boxes, len(features), where),
        size_of(content, where),
        None if labels is None else labels[: len(features)],
    )


def regions_of(features: Array, where: str, grid: Grid | None = None) -> Array:
    """(R, F) features of one photo, from (F,), (R, F), or a grid of three numbers of rows, also behind a 1.

    Raises:
        ValueError: another shape, other numbers than floats, or a grid of which it cannot be seen what is what.
    """
    if features.dtype.kind != "f" or features.dtype.itemsize > 8:
        raise ValueError(f"{where}: features of {features.dtype}, expected float16, float32 or float64")
    shape = features.shape
    if len(shape) in (3, 4) and shape[0] == 1:
        features = features[0]
    if features.ndim == 3:
        features = flat_grid(features[None], where, grid)[0]
    if features.ndim == 1:
        features = features[None]
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{where}: features of shape {shape}, expected (regions, numbers per region)")
    return features


def flat_grid(features: Array, where: str, grid: Grid | None) -> Array:
    """(N, H * W, F) features from (N, H, W, F) or (N, F, H, W); a view, where the first is a memory map.

    A grid as high as wide tells by itself which of the sizes is F.

    Raises:
        ValueError: it does not, and ``grid`` is None.
    """
    first, second, third = features.shape[1:]
    if grid is None and (first == second) != (second == third):
        grid = "channels_last" if first == second else "channels_first"
    if grid is None:
        raise ValueError(
            f"{where}: a grid of shape {features.shape}; say by grid whether it is channels_last (images, height, "
            "width, numbers) or channels_first (images, numbers, height, width)"
        )
    if grid == "channels_last":
        return features.reshape(len(features), first * second, third)
    return features.reshape(len(features), first, second * third).transpose(0, 2, 1)


def checked_boxes(boxes: Array, regions: int, where: str) -> Array:
    """(R, 4) float32 boxes, from rows of four numbers or more, of which the first four are the box.

    Raises:
        ValueError: other shapes, or no numbers.
    """
    if boxes.size == 0 and regions == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] < 4 or boxes.dtype.kind not in "iuf" or len(boxes) < regions:
        raise ValueError(
            f"{where}: boxes {boxes.dtype} of shape {boxes.shape}, expected numbers of shape ({regions}, 4)"
        )
    with np.errstate(over="ignore"):  # an infinite box is told of where boxes are used
        return boxes[:regions, :4].astype(np.float32)


def size_of(content: Mapping[str, Any], where: str) -> tuple[float, float] | None:
    """Width and height, of which either both are there or none.

    Raises:
        ValueError: they are no positive numbers.
    """
    given = first_of(content, WIDTHS), first_of(content, HEIGHTS)
    if given[0] is None or given[1] is None:
        return None
    try:
        width, height = (float(np.asarray(side).reshape(())) for side in given)
    except (TypeError, ValueError):
        width = height = float("nan")
    if not (0 < width < 1e9 and 0 < height < 1e9):
        found = [np.asarray(side).tolist() for side in given]
        raise ValueError(f"{where}: width and height {shown(found)}, expected positive numbers")
    return width, height


def stem_of(path: Path) -> str:
    """The name of a photo from that of its file: without the endings of arrays and of photos."""
    name = path.name
    for endings in ((".npz", ".npy"), (".jpg", ".jpeg", ".png")):
        name = next((name[: -len(ending)] for ending in endings if name.lower().endswith(ending)), name)
    return name
