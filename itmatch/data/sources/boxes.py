"""The boxes of a precomputed folder: made fractions of the sizes of their images, whatever form these have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmatch.data.batching.validation import BOX_TOLERANCE
from itmatch.data.sources.layout import Layout, per_image
from itmatch.formats.arrays import Array, field_names, open_array
from itmatch.formats.features.base import BOXES, HEIGHTS, WIDTHS, size_of
from itmatch.formats.messages import shown
from itmatch.formats.pickles import holds_objects, read_pickled_npy

BOX_FILES = ("boxes", "ims_bbx")
SIZE_FILES = ("sizes", "ims_size")


def first_file(where: Path, stems: tuple[str, ...]) -> Path | None:
    """The first of the files ``{where}_{stem}.npy`` that exists."""
    return next((path for stem in stems if (path := Path(f"{where}_{stem}.npy")).exists()), None)


def boxes_file(where: Path) -> Path | None:
    """The file of the boxes of a split: one of its own, or that of the features, where its records have boxes, too."""
    return first_file(where, BOX_FILES) or _in_features(where, BOXES)


def _in_features(where: Path, *fields: tuple[str, ...]) -> Path | None:
    path = Path(f"{where}_ims.npy")
    names = field_names(path)
    return path if all(any(name in names for name in one) for one in fields) else None


def in_pixels(boxes: Array) -> bool:
    """Whether boxes are in pixels: some coordinate is far above 1."""
    return bool(boxes.size) and float(np.nanmax(boxes, initial=0)) > 2


def open_boxes(where: Path, layout: Layout, rows: int, stem: str = "boxes") -> Array | None:
    """The boxes of a split as fractions, or None where it has none; sizes are opened for boxes in pixels alone.

    Raises:
        ValueError: boxes or sizes are no good, or there are no sizes for boxes in pixels.
    """
    path = boxes_file(where) if stem == "boxes" else Path(f"{where}_{stem}.npy")
    if path is None:
        return None
    boxes = per_image(open_array(path, ndim=3, dtypes=("float", "int"), fields=BOXES), layout, rows, path)
    if not in_pixels(boxes):
        return boxes if boxes.dtype.kind == "f" else boxes.astype(np.float32)
    sizes_file = first_file(where, SIZE_FILES) or _in_features(where, WIDTHS, HEIGHTS)
    if sizes_file is None:
        raise ValueError(f"{path}: boxes in pixels, which needs {where}_sizes.npy of (images, width and height)")
    return fractions(boxes, per_image(open_sizes(sizes_file), layout, rows, sizes_file), sizes_file)


def open_sizes(path: Path) -> Array:
    """(N, 2) widths and heights, from numbers, records, or pickled dicts, which are read without running them.

    Raises:
        ValueError: none of these, or a size that is no positive number.
    """
    if not holds_objects(path):
        array = open_array(path)
        names = array.dtype.names or ()
        if not names:
            return array
        width, height = (next((name for name in side if name in names), None) for side in (WIDTHS, HEIGHTS))
        if width is None or height is None:
            raise ValueError(f"{path}: fields {', '.join(names)}, expected image_w and image_h")
        return np.stack([array[width], array[height]], -1)
    content = read_pickled_npy(path)
    sizes = []
    for row, size in enumerate(content if isinstance(content, list) else []):
        found = size_of(size, f"{path}: row {row}") if isinstance(size, dict) else None
        if found is None:
            raise ValueError(f"{path}: row {row} is {shown(size)}, expected a dict of image_w and image_h")
        sizes.append(found)
    if not sizes:
        raise ValueError(f"{path}: {shown(content)}, expected (images, 2) numbers, or dicts of image_w and image_h")
    return np.array(sizes)


def fractions(boxes: Array, sizes: Array, path: Path) -> Array:
    """(N, R, 4) boxes in pixels as fractions of (N, 2) widths and heights.

    Writers differ in which of the two comes first. The boxes tell: sizes that the boxes fit into only when width and
    height change places have the height first, whatever they are called.
    """
    if sizes.shape != (len(boxes), 2) or sizes.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {sizes.dtype} of shape {sizes.shape}, expected numbers of shape ({len(boxes)}, 2)")
    with np.errstate(over="ignore"):
        sides = sizes.astype(np.float32)
    good = ((sides > 0) & (sides < np.inf)).all(1)  # False for NaN
    if not good.all():
        image = int(good.argmin())
        raise ValueError(
            f"{path}: image {image} has size {sizes[image].tolist()}, expected a positive, finite width and height"
        )
    with np.errstate(over="ignore"):  # an infinite box is told of where boxes are checked
        result: Array = boxes.astype(np.float32)
    reach = np.stack([result[..., 2], result[..., 3]], -1).max(1, initial=0)  # (N, 2)
    room = 1 + BOX_TOLERANCE
    if not (reach <= sides * room).all() and (reach <= sides[:, ::-1] * room).all():
        sides = sides[:, ::-1]
    result /= np.tile(sides, 2)[:, None]
    return result
