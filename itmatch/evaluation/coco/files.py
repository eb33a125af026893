"""Reading the annotation files that speak of MS-COCO's own ids of captions and images."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from itmatch.formats.arrays import read_array
from itmatch.formats.files import read_json
from itmatch.formats.messages import is_count, shown

TEST_IDS = "coco_test_ids.npy"
_OWN_IMAGES = "original_caption_to_image.json"
MOST = 1 << 40  # COCO's ids are smaller


class CaptionIds(NamedTuple):
    """COCO's ids of the captions of a test set, in its order, and of the image that each describes.

    Args:
        captions: T different ids.
        images: T ids.
        path: of the file.
    """

    captions: list[int]
    images: list[int]
    path: Path


def read_test_ids(folder: Path, num_captions: int) -> CaptionIds:
    """The ids of ``coco_test_ids.npy``, and their images by ``original_caption_to_image.json``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is broken, or the ids are not of so many captions.
    """
    path = folder / TEST_IDS
    array = read_array(path)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{path}: {array.dtype} of shape {shown(array.shape)}, expected integers of shape (captions,)")
    captions: list[int] = array.tolist()
    if len(captions) != num_captions:
        raise ValueError(f"{path}: ids of {len(captions)} captions, the split has {num_captions}")
    if len(set(captions)) != len(captions):
        raise ValueError(f"{path}: an id comes twice")
    own = folder / _OWN_IMAGES
    found = _lists(own)
    images = []
    for caption in captions:
        if len(found.get(caption, ())) != 1:
            raise ValueError(f"{own}: caption {caption} of {path.name} has no list of one image there")
        images += found[caption]
    return CaptionIds(captions, images, path)


def read_positives(path: Path, queries: Collection[int]) -> dict[int, list[int]]:
    """What answers each query, by COCO's ids.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, has an id that is not among the queries, or no answer at all.
    """
    found = _lists(path)
    for query in found:
        if query not in queries:
            raise ValueError(f"{path}: {query} is not in the test set of {path.with_name(TEST_IDS)}")
    if not any(found.values()):
        raise ValueError(f"{path}: no list has an id")
    return found


def read_instances(path: str | Path) -> tuple[int, set[tuple[int, int]]]:
    """How many object classes COCO has, and which image shows which, as pairs of the image's id and the class's place.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no file of COCO's instances, or a broken one.
    """
    content = read_json(path)
    for key in ("categories", "annotations"):
        if not isinstance(content.get(key), list):
            raise ValueError(f"{path}: no list {key!r}; is this a file of COCO instances?")
    places: dict[int, int] = {}
    for number, category in enumerate(content["categories"]):
        own = _id(category, "id", f"{path}: categories[{number}]")
        if places.setdefault(own, number) != number:
            raise ValueError(f"{path}: categories[{number}] has the id {own} of categories[{places[own]}]")
    pairs = set()
    for number, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        image, category = (_id(annotation, key, where) for key in ("image_id", "category_id"))
        if category not in places:
            raise ValueError(f"{where} has category_id {category}, which is not among the 'categories'")
        pairs.add((image, places[category]))
    return len(places), pairs


def _lists(path: Path) -> dict[int, list[int]]:
    """A file of lists of ids, by ids."""
    found = {}
    for key, values in read_json(path).items():
        if not is_count(key) or str(int(key)) != key:
            raise ValueError(f"{path}: key {shown(key)}, expected an id")
        if not isinstance(values, list) or not all(type(value) is int and 0 <= value < MOST for value in values):
            raise ValueError(f"{path}: {key} has {shown(values)}, expected a list of ids")
        found[int(key)] = values
    return found


def _id(entry: Any, key: str, where: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not int:
        raise ValueError(f"{where} has {key} {shown(value)}, expected an id")
    return value
