"""Photos beside precomputed features, and the names of labels and predicates: for pictures."""

import json

import numpy as np
import pytest
from helpers_cli import write_precomp

from itmatch.data import Names, PrecompFolder


@pytest.fixture
def folder(tmp_path):
    root = write_precomp(tmp_path / "data", splits=["test"], relations=True)
    (root / "test_ids.txt").write_text("10\n20.jpg\nthirty\n../../outside\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("10.png", "20.jpg", "other.jpg"):
        (photos / name).write_bytes(b"photo")
    (tmp_path / "outside.jpg").write_bytes(b"somebody else's")
    return root


def test_photos_are_found_by_ids(folder):
    photos = folder.parent / "photos"
    split = PrecompFolder(folder, photos=photos).split("test")
    assert [split.picture(i) for i in range(4)] == [str(photos / "10.png"), str(photos / "20.jpg"), None, None]
    (folder / "id_mapping.json").write_text(json.dumps({"thirty": "coco/other.jpg", "10": "../outside.jpg"}))
    split = PrecompFolder(folder, photos=photos).split("test")
    assert [split.picture(i) for i in (0, 2)] == [None, str(photos / "other.jpg")]
    assert PrecompFolder(folder).split("test").picture(0) is None


def test_photos_that_cannot_be_found(folder):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder, expected that of the photos"):
        PrecompFolder(folder, photos=folder / "nowhere").split("test")
    (folder / "test_ids.txt").unlink()
    with pytest.raises(ValueError, match=r"test_ids\.txt: .*photos are found by their ids"):
        PrecompFolder(folder, photos=folder).split("test")


def test_names_of_labels_and_predicates(folder):
    assert PrecompFolder(folder).split("test").names == Names([], [])
    (folder / "predicates.json").write_text('["on", "near"]')
    (folder / "labels.json").write_text('["dog"]')
    names = PrecompFolder(folder).split("test").names
    assert (names.predicate(1), names.predicate(2), names.label(0), names.label(-1)) == (
        "near",
        "relation 2",
        "dog",
        None,
    )
    (folder / "labels.json").write_text('{"dog": 1}')
    with pytest.raises(ValueError, match=r"labels\.json"):
        PrecompFolder(folder).split("test")


def test_pictures_of_a_split_of_ones_own():
    from itmatch.data import ImageTextSplit

    features = np.zeros((2, 3, 4), np.float32)
    split = ImageTextSplit(features, ["a", "b"], np.array([0, 1]), pictures=["a.jpg", ""])
    assert [split.picture(0), split.picture(1)] == ["a.jpg", None]
    assert ImageTextSplit(features, ["a", "b"], np.array([0, 1])).picture(0) is None
    with pytest.raises(ValueError, match="pictures: 1 for 2 images"):
        ImageTextSplit(features, ["a", "b"], np.array([0, 1]), pictures=["a.jpg"])
