"""What an index takes: ids of photos however they are given, what is there already, captions of photos."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers_photos import COLOURS, Halves, a_photo, halves_model

from itmatch.data import ImageTextSplit
from itmatch.search import Index

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three photos, one in a folder below, in the folder where the test runs."""
    monkeypatch.chdir(tmp_path)
    Path("photos/below").mkdir(parents=True)
    for colour, place in zip(COLOURS, ("", "", "below"), strict=True):
        Path("photos", place, f"{colour}.jpg").write_bytes(a_photo(colour))
    return Path("photos")


NAMES = ["below/blue.jpg", "green.jpg", "red.jpg"]


def white(path):
    path = Path(path)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(a_photo("white"))
    return path


def a_list(path, *lines):
    Path(path).write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "given",
    [
        "photos",
        "./photos/../photos",
        ["photos/red.jpg"],
        "photos/red.jpg",
        Path("photos/red.jpg"),
        "photos/below",
        "list.txt",
        "photos/inner.txt",
    ],
)
def test_a_photo_comes_once_by_whatever_path_it_is_given(photos, given):
    index = Index.build(halves_model(), "photos", "index")
    a_list("list.txt", "photos/green.jpg")
    a_list("photos/inner.txt", "green.jpg")
    absolute = [os.path.abspath(path) for path in given] if isinstance(given, list) else os.path.abspath(given)
    for one in (given, absolute):
        with pytest.raises(ValueError, match=r"index: has [13] of the [13] images already: '.*'; skip_existing=True"):
            index.add(one)
        assert index.add(one, skip_existing=True) == 0
    assert index.images.ids == NAMES
    assert index.images.pictures == [os.path.abspath(photos / name) for name in NAMES]


def test_a_photo_in_a_folder_of_the_index_has_its_path_there_as_id(photos):
    index = Index.build(halves_model(), photos, "index")
    assert index.add([white("photos/a.jpg")]) == 1
    assert index.add(os.path.abspath(white("photos/below/b.jpg"))) == 1
    white("photos/new/c.jpg")
    assert index.add("photos/new") == 1
    white("photos/d.jpg")
    assert index.add(a_list("list.txt", "photos/d.jpg", "photos/red.jpg"), skip_existing=True) == 1
    white("photos/e.jpg")
    assert index.add(photos, skip_existing=True) == 1
    assert index.images.ids == [*NAMES, "a.jpg", "below/b.jpg", "new/c.jpg", "d.jpg", "e.jpg"]
    index.add([white("other/f.jpg")])  # of no folder of the index: the path as it is given
    index.add(["./" + str(white("other/g.jpg"))])
    assert index.images.ids[-2:] == ["other/f.jpg", "other/g.jpg"]
    with pytest.raises(ValueError, match="has 1 of the 1 images already"):
        index.add("other/f.jpg")


def test_an_index_of_paths_takes_the_rest_of_their_folder(photos):
    index = Index.build(halves_model(), ["photos/red.jpg", Path("photos/green.jpg")], "index")
    assert index.images.ids == ["photos/red.jpg", "photos/green.jpg"]
    assert index.add("photos", skip_existing=True) == 1
    assert index.images.ids[2] == "photos/below/blue.jpg"


def test_two_photos_of_one_name_are_told_apart(photos):
    index = Index.build(halves_model(), photos, "index")
    white("other/red.jpg")
    for skip in (False, True):
        with pytest.raises(
            ValueError, match=r"index: 'red.jpg' is the id of '/.*photos/red.jpg' already, and would be "
        ):
            index.add("other", skip_existing=skip)
    assert index.images.ids == NAMES
    index.add(["other/red.jpg"])
    assert index.images.ids[3] == "other/red.jpg"


@pytest.mark.parametrize("twice", [["photos/red.jpg", "photos/below/../red.jpg"], ["photos/red.jpg", "ABSOLUTE"]])
def test_a_photo_twice_in_one_source(photos, twice):
    given = [os.path.abspath("photos/red.jpg") if one == "ABSOLUTE" else one for one in twice]
    with pytest.raises(ValueError, match=r"photos: 'photos/red.jpg' is there twice, also as '"):
        Index.build(halves_model(), given, "index")
    with pytest.raises(ValueError, match="is there twice"):
        Index.build(halves_model(), a_list("list.txt", *given), "index")


def features_of(names):
    return Halves()([Image.open(f"photos/{name}") for name in names]).features.numpy()


def test_existing_images_of_a_split_are_left_with_their_captions(photos):
    captions = ["a blue photo", "a green photo", "green", "a red photo", "a photo"]
    owners = np.array([0, 1, 1, 2, -1])
    pictures = [f"photos/{name}" for name in NAMES]
    split = ImageTextSplit(features_of(NAMES), captions, owners, image_ids=NAMES, pictures=pictures)
    index = Index.build(halves_model(), ["photos/green.jpg"], "index")
    with pytest.raises(ValueError, match=r"has 1 of the 3 images already: 'green.jpg'"):  # its file is there
        index.add(split)
    assert index.add(split, skip_existing=True) == 2
    assert index.images.ids == ["photos/green.jpg", "below/blue.jpg", "red.jpg"]
    assert index.captions.texts == ["a blue photo", "a red photo"]
    assert index.captions.image_serials().tolist() == [1, 2]
    assert index.captions.ids == ["0", "1"]
    assert index.search(Path("photos/red.jpg"), 2).scores.allclose(
        index.model.score("photos/red.jpg", captions)[0, [0, 3]].sort(descending=True).values[None], atol=2e-3
    )
    whole = Index.build(halves_model(), split, "whole")
    assert whole.add(split, skip_existing=True) == 0
    assert whole.captions.image_serials().tolist() == [0, 1, 1, 2, -1]


def test_captions_of_photos(photos):
    Path("captions.json").write_text(json.dumps({"red.jpg": ["a red photo", "red"], "blue.jpg": "blue", "gone": "a"}))
    model = halves_model()
    with pytest.warns(UserWarning, match=r"captions.json: 1 name that no photo has.*'gone'"):
        index = Index.build(model, photos, "index", captions="captions.json", batch_size=2)
    assert (index.images.ids, index.captions.texts) == (NAMES, ["blue", "a red photo", "red"])
    assert index.captions.image_serials().tolist() == [0, 2, 2]
    found = index.search(photos / "red.jpg", 3)
    expected = model.score(photos / "red.jpg", ["blue", "a red photo", "red"])
    assert found.rows[0].tolist() == expected[0].argsort(descending=True).tolist()
    white("photos/white.jpg")
    Path("more.txt").write_text("white.jpg\ta photo\nred.jpg\tgreen\n")
    index.add("photos", captions="more.txt", skip_existing=True)
    assert index.captions.texts == ["blue", "a red photo", "red", "a photo"]
    assert index.captions.image_serials().tolist() == [0, 2, 2, 3]
    index.delete("red.jpg")
    assert index.captions.texts == ["blue", "a photo"]


def test_a_photo_that_cannot_be_read_leaves_its_captions_out(photos):
    Path("photos/bad.jpg").write_bytes(b"nothing")
    Path("captions.txt").write_text("bad.jpg\ta photo\nred.jpg\tred\n")
    with pytest.warns(UserWarning, match="bad.jpg|1 of 4"):
        index = Index.build(halves_model(), photos, "index", captions="captions.txt")
    assert index.captions.texts == ["red"]
    assert index.captions.image_serials().tolist() == [2]


def test_captions_in_a_tar_file_come_with_its_photos(photos):
    Path("red.txt").write_text("red\na red photo\n")
    with tarfile.open("photos.tar", "w") as tar:
        for path in ("photos/red.jpg", "photos/green.jpg", "red.txt"):
            tar.add(path, Path(path).name)
    index = Index.build(halves_model(), "photos.tar", "index")
    assert (index.images.ids, index.captions.texts) == (["red.jpg", "green.jpg"], ["red", "a red photo"])
    assert index.captions.image_serials().tolist() == [0, 0]
    with pytest.raises(ValueError, match="has 2 of the 2 images already"):
        index.add("photos.tar")
    assert index.add("photos.tar", skip_existing=True) == 0


def test_captions_that_are_no_good(photos):
    a_list("none.txt", "other.jpg\tred")
    split = ImageTextSplit(features_of(NAMES), image_ids=NAMES)
    for source, captions, error, message in (
        ("photos", "none.txt", ValueError, "none.txt: captions of none of the 3 photos"),
        ("photos", "gone.txt", FileNotFoundError, "gone.txt"),
        (split, "none.txt", ValueError, "captions='none.txt': are for photos alone, and dataset is a split"),
    ):
        with pytest.raises(error, match=message):
            Index.build(halves_model(), source, "index", captions=captions)
    assert not Path("index").exists()
