"""Which rows of a precomputed folder are which image: its images stand once each, or once for every caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmatch.formats.arrays import Array, take_rows
from itmatch.formats.files import read_json
from itmatch.formats.messages import shown
from itmatch.ops.checks import check_whole_or_none

_BLOCK = 4096  # rows a block
_REPEATED = "since equal rows of _ims.npy were taken for one image; captions_per_image says how many rows are one"
_SLICE = 64  # numbers of a region that are compared first: a page of the file instead of a whole row


@dataclass(frozen=True, eq=False)
class Layout:
    """How rows, images and captions belong together.

    Args:
        num_images: N.
        rows: (N,) the row of each image, or None when row i is image i.
        caption_image: (T,) int64, the image of each caption, -1 = none of them.
        image_ids: N ids, or None when the file has none or has ids of captions.
    """

    num_images: int
    rows: Array | None
    caption_image: Array
    image_ids: list[str] | None

    def without(self, images: Array) -> tuple[Layout, Array, Array]:
        """The layout without some images, (N,) bool, and their captions; and which images and captions are left."""
        left = np.flatnonzero(~images)
        captions = np.flatnonzero((self.caption_image < 0) | ~images[self.caption_image])
        rows = left if self.rows is None else self.rows[left]
        ids = None if self.image_ids is None else [self.image_ids[image] for image in left]
        owners = self.caption_image[captions]
        owners = np.where(owners < 0, -1, np.searchsorted(left, owners))
        return Layout(len(left), rows, owners, ids), left, captions


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
    if 0 in features.shape:
        raise ValueError(f"{where}_ims.npy: shape {features.shape}, expected a region and a number of each at least")
    check_whole_or_none("captions_per_image", captions_per_image)
    if rows == num_captions:
        starts = _group_starts(features, ids, captions_per_image, where)
    elif ids is not None and len(ids) == num_captions and captions_per_image is None and len(_changes(ids)) == rows:
        starts = _changes(ids)  # an id per caption: the images may have different numbers of captions
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
    found = _image_ids(ids, starts, caption_image, where)
    return Layout(len(starts), starts if repeated else None, caption_image, found)


def owners_of(ids: list[str], num_captions: int, where: str) -> tuple[list[str], Array]:
    """The images, and the image of each caption, from a list with an id per image or an id per caption.

    Raises:
        ValueError: as many captions as fit neither.
    """
    if ids and len(ids) == num_captions:
        starts = _changes(ids)
        owners = np.zeros(num_captions, np.int64)
        owners[starts[1:]] = 1
        return [ids[start] for start in starts], owners.cumsum()
    if not ids or not num_captions or num_captions % len(ids):
        raise ValueError(
            f"{where}: {num_captions} captions for {len(ids)} ids, expected as many for each, or an id per caption"
        )
    return ids, np.arange(num_captions) // (num_captions // len(ids))


def mapping_beside(folder: Path) -> dict[str, str] | None:
    """The files of photos by id, from ``id_mapping.json`` in a folder, or beside a folder ``precomp``.

    Raises:
        ValueError: the json is no dict of texts.
    """
    path = (folder.parent if folder.name == "precomp" else folder) / "id_mapping.json"
    if not path.exists():
        return None
    content = read_json(path)
    for key, value in content.items():
        if not isinstance(value, str):
            raise ValueError(f"{path}: {shown(key)} is {shown(value)}, expected the name of a file")
    return dict(content)


def lists_in(folder: Path) -> Path:
    """Where the lists of ids and captions are: in the folder, or in ``precomp`` in it."""
    inner = folder / "precomp"
    return inner if inner.is_dir() and not any(folder.glob("*_ids.txt")) else folder


def per_image(array: Array, layout: Layout, rows: int, path: Path) -> Array:
    """An array with a row per image, from one with a row per image or a row per feature row.

    Raises:
        ValueError: it has neither number of rows, or its rows of one image differ.
    """
    if array.ndim and len(array) == layout.num_images:
        return array
    if layout.rows is None or array.ndim == 0 or len(array) != rows:
        repeated = "" if layout.rows is None else f" or {rows} (rows of _ims.npy), {_REPEATED}"
        raise ValueError(f"{path}: shape {array.shape}, expected {layout.num_images} rows (images){repeated}")
    for start in range(1, rows, _BLOCK):
        block = np.ascontiguousarray(array[start - 1 : start + _BLOCK])
        bits = block.view(np.uint8).reshape(len(block), block.nbytes // len(block))  # NaN equals itself
        image = layout.caption_image[start - 1 : start + _BLOCK]
        unlike = (bits[1:] != bits[:-1]).any(1) & (image[1:] == image[:-1])
        if unlike.any():
            row = start + int(unlike.argmax())
            raise ValueError(
                f"{path}: rows {row - 1} and {row} differ, expected equal ones: they are of one image (image "
                f"{layout.caption_image[row]})"
            )
    return take_rows(array, layout.rows)


def _group_starts(features: Array, ids: list[str] | None, share: int | None, where: str) -> Array:
    """Rows where another image begins, when there are as many rows as captions."""
    rows = len(features)
    if share is not None:
        if rows % share:
            raise ValueError(f"{where}_ims.npy: {rows} rows, expected a multiple of captions_per_image={share}")
        starts = np.arange(0, rows, share)
        told = f"with as many rows as captions ({rows}) and captions_per_image={share}"
    elif ids is not None and len(ids) == rows and len(set(ids)) < rows:
        starts = _changes(ids)
        told = f"by {where}_ids.txt"
    else:
        if ids and len(ids) < rows and rows % len(ids) == 0:  # an id per image
            starts = np.arange(0, rows, rows // len(ids))
            if _unlike_row(features, starts) is None:
                return starts
        return _runs(features, named=ids is not None and len(ids) == rows, where=where)
    row = _unlike_row(features, starts)
    if row is not None:
        raise ValueError(f"{where}_ims.npy: rows {row - 1} and {row} differ, but {told} they would be one image")
    return starts


def _changes(ids: list[str]) -> Array:
    """Places where another id begins."""
    return np.array([0, *(i for i in range(1, len(ids)) if ids[i] != ids[i - 1])])


def _unlike_row(features: Array, starts: Array) -> int | None:
    """The first row that is unlike the one before it although no image begins there."""
    inside = np.ones(len(features), bool)
    inside[starts] = False
    if inside.any():  # else nothing need be read
        inside &= ~_alike(_bits(features))
    return int(inside.argmax()) if inside.any() else None


def _runs(features: Array, *, named: bool, where: str) -> Array:
    """Rows where another image begins, seen from the rows alone: equal ones that follow each other are one image.

    Rows of zeros alone are those of images in which nothing was detected, so that two equal ones say nothing; they are
    counted as the other images are. Where rows are ``named``, each by another name, the names are those of images
    unless most rows repeat: then two photos with equal features are two.
    """
    bits, rows = _bits(features), len(features)
    same = _alike(bits)
    for row in np.flatnonzero(same):
        same[row] = np.array_equal(bits[row], bits[row - 1])
    starts = np.flatnonzero(~same)
    counts = np.diff(starts, append=rows)
    if named and 2 * int((counts == 1).sum()) >= rows:
        return np.arange(rows)
    repeated = np.flatnonzero(counts > 1)
    empty = [run for run in repeated if not np.any(features[starts[run]])]
    if not empty:
        return starts
    usual = np.unique(np.delete(counts, empty)) if len(empty) < len(counts) else np.ones(1, int)
    if len(usual) > 1 or (counts[empty] % usual[0]).any():
        first, last = starts[empty[0]], starts[empty[0]] + counts[empty[0]] - 1
        raise ValueError(
            f"{where}_ims.npy: rows {first}..{last} hold zeros alone, so of how many images they are cannot be seen; "
            f"give captions_per_image, or in {where}_ids.txt ids that are equal where the image is"
        )
    cut = [np.arange(starts[run], starts[run] + counts[run], usual[0]) for run in empty]
    return np.union1d(starts, np.concatenate(cut))


def _alike(bits: Array) -> Array:
    """(rows,) bool: whether a row begins and ends as the one before it does."""
    same = np.zeros(len(bits), bool)
    for start in range(1, len(bits), _BLOCK):
        stop = min(start + _BLOCK, len(bits))
        block = np.asarray(bits[start - 1 : stop, [0, -1], :_SLICE])
        same[start:stop] = (block[1:] == block[:-1]).all((1, 2))
    return same


def _bits(features: Array) -> Array:
    """The same numbers as integers, so that NaN equals itself."""
    return features.view(f"u{features.dtype.itemsize}")


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
