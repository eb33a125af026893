"""Which rows of a precomputed folder are which image: its images stand once each, or once for every caption."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from itmatch.data.arrays import Array

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Layout:
    """How rows, images and captions belong together.

    Args:
        rows: (N,) the row of each image, or None when row i is image i.
        caption_image: (T,) int64, the image of each caption.
        image_ids: N ids, or None when the file has none or has ids of captions.
    """

    rows: Array | None
    caption_image: Array
    image_ids: list[str] | None

    @property
    def num_images(self) -> int:
        """N."""
        return int(self.caption_image[-1]) + 1


def find_layout(
    features: Array, num_captions: int, ids: list[str] | None, captions_per_image: int | None, where: str
) -> Layout:
    """Find the layout from the number of rows and captions, repeated ids, and repeated rows.

    Args:
        features: (rows, R, F).
        num_captions: T.
        ids: lines of the ids file, one a row, an image or a caption; None = no such file.
        captions_per_image: what the user says; None = find out.
        where: path of the split without the endings, for error messages.

    Raises:
        ValueError: the numbers do not agree.
    """
    rows = len(features)
    if rows == 0 or num_captions == 0:
        raise ValueError(
            f"{where}: {rows} rows in _ims.npy and {num_captions} captions in _caps.txt, expected some of each"
        )
    if captions_per_image is not None and captions_per_image < 1:
        raise ValueError(f"captions_per_image: {captions_per_image}, expected 1 or more")
    if rows == num_captions:
        starts = _group_starts(features, ids, captions_per_image, where)
    else:
        share = captions_per_image or num_captions // rows
        if share < 1 or rows * share != num_captions:
            wanted = f"{captions_per_image} for every image" if captions_per_image else f"a multiple of {rows}"
            raise ValueError(
                f"{where}_caps.txt: {num_captions} captions for {rows} rows of _ims.npy, expected {wanted}"
            )
        starts = np.arange(0, num_captions, share)
    caption_image = np.zeros(num_captions, np.int64)
    caption_image[starts[1:]] = 1
    caption_image = caption_image.cumsum()
    repeated = rows == num_captions and len(starts) < rows
    return Layout(starts if repeated else None, caption_image, _image_ids(ids, starts, caption_image, where))


def _group_starts(features: Array, ids: list[str] | None, share: int | None, where: str) -> Array:
    """Rows where another image begins, when there are as many rows as captions."""
    rows = len(features)
    if share is not None:
        if rows % share:
            raise ValueError(f"{where}_ims.npy: {rows} rows, expected a multiple of captions_per_image={share}")
        same = _equals_previous(features) if share > 1 else np.zeros(rows, bool)
        starts = np.arange(0, rows, share)
        inside = np.ones(rows, bool)
        inside[starts] = False
        if not same[inside].all():
            row = int(np.flatnonzero(inside & ~same)[0])
            raise ValueError(
                f"{where}_ims.npy: rows {row - 1} and {row} differ, but with as many rows as captions ({rows}) and "
                f"captions_per_image={share} they would be one image"
            )
        return starts
    if ids is not None and len(ids) == rows and len(set(ids)) < rows:
        return np.array([0, *(i for i in range(1, rows) if ids[i] != ids[i - 1])])
    starts = np.flatnonzero(~_equals_previous(features))
    share = gcd(*np.diff(starts, append=rows).tolist())  # two equal photographs in a row make a run twice as long
    return np.arange(0, rows, share)


def _equals_previous(features: Array) -> Array:
    """(rows,) bool: whether a row repeats the one before it, seen from its first and last region."""
    bits = features.view(np.uint16 if features.dtype.itemsize == 2 else np.uint32)  # NaN equals itself
    same = np.zeros(len(features), bool)
    for start in range(1, len(features), _BLOCK):
        stop = min(start + _BLOCK, len(features))
        block = np.asarray(bits[start - 1 : stop, [0, -1]])
        same[start:stop] = (block[1:] == block[:-1]).all((1, 2))
    return same


def _image_ids(ids: list[str] | None, starts: Array, caption_image: Array, where: str) -> list[str] | None:
    if ids is None:
        return None
    images, captions = len(starts), len(caption_image)
    if len(ids) == images:
        return ids
    if len(ids) != captions:
        wanted = f"{images} (one an image)" + (f" or {captions} (one a caption)" if captions != images else "")
        raise ValueError(f"{where}_ids.txt: {len(ids)} ids, expected {wanted}")
    if len(set(ids)) == captions:
        return None  # every caption has an id of its own: these name captions, not images
    mixed = [line for line, image in enumerate(caption_image) if ids[line] != ids[starts[image]]]
    if mixed:
        line = mixed[0]
        raise ValueError(
            f"{where}_ids.txt:{line + 1}: id {ids[line]!r}, expected {ids[starts[caption_image[line]]]!r} as for the "
            "other captions of the image"
        )
    return [ids[start] for start in starts]
