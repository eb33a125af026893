"""Splits without captions: what gives one, what searches it, and what refuses it."""

import json

import numpy as np
import pytest

from itmatch.cli.data.convert import convert_data
from itmatch.data import (
    ImageFolder,
    ImageTextSplit,
    KarpathyJson,
    PrecompFolder,
    check_path,
    karpathy_lists,
    text_lists,
)
from itmatch.data.sources.galleries import read_texts

FEATURES = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "test_ims.npy", FEATURES)
    (tmp_path / "test_ids.txt").write_text("a\nb\nc\n")
    return tmp_path


def assert_gallery(split, ids, queries=()):
    assert (split.image_ids, split.captions) == (ids, list(queries))
    assert split.caption_image.tolist() == [-1] * len(queries)
    with pytest.raises(ValueError, match="training needs captions of images"):
        split.check_pairs("training")


def test_a_folder_without_captions(folder):
    assert_gallery(PrecompFolder(folder).split("test"), ["a", "b", "c"])
    report = check_path(folder)
    assert "test: a gallery, 3 images without captions" in report.found
    assert report.ok
    assert not report.ready
    assert "for `itmatch predict` alone: test" in report.not_ready
    [found] = text_lists(folder)
    assert (found.ids, found.captions) == (["a", "b", "c"], [[], [], []])


def test_texts_to_search_with(folder):
    (folder / "test_queries.txt").write_text("a dog\n \ntwo cats\n")
    told = r"test_queries\.txt:2: blank and left out: 1 of 3 captions, the first is on this line; blank_captions"
    with pytest.warns(UserWarning, match=told):
        split = PrecompFolder(folder).split("test")
    assert_gallery(split, ["a", "b", "c"], ["a dog", "two cats"])
    assert split.caption(1).image == -1
    assert "a gallery, 3 images without captions; 2 texts in test_queries.txt" in str(check_path(folder))
    (folder / "test_caps.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(ValueError, match=r"test_queries\.txt: beside test_caps\.txt"):
        read_texts(folder / "test")


def test_images_without_regions_leave_a_gallery(folder):
    np.save(folder / "test_lengths.npy", np.array([2, 0, 1]))
    (folder / "test_queries.txt").write_text("a dog\n")
    assert_gallery(PrecompFolder(folder, without_regions="drop").split("test"), ["a", "c"], ["a dog"])


@pytest.mark.parametrize(
    ("ids", "error"),
    [("a\nb\n", r"test_ids\.txt: 2 ids, expected 3, .* no test_caps"), ("a\nb\nb\n", r"test_ids\.txt:3: image id")],
)
def test_ids_have_to_be_those_of_the_images(folder, ids, error):
    (folder / "test_ids.txt").write_text(ids)
    with pytest.raises(ValueError, match=error):
        PrecompFolder(folder).split("test")
    assert not check_path(folder).ok


def test_a_folder_of_photos(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for place, name in enumerate(("b.PNG", "a.png", "c.png")):
        image.new("RGB", (40, 30), (50 * place, 0, 9)).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("no photo")
    split = ImageFolder(tmp_path).split("test")
    assert_gallery(split, ["a.png", "b.PNG", "c.png"])
    assert split.image(0).features.shape == (49, 3 * 32 * 32)
    report = check_path(tmp_path)
    assert (report.ok, report.found) == (True, ["test: a gallery, 3 photos without captions"])
    (tmp_path / "test_queries.txt").write_text("a dog\n")
    assert_gallery(ImageFolder(tmp_path).split("test"), ["a.png", "b.PNG", "c.png"], ["a dog"])
    (tmp_path / "test_ids.txt").write_text("c.png\n")
    assert_gallery(ImageFolder(tmp_path).split("test"), ["c.png"], ["a dog"])
    with pytest.raises(FileNotFoundError, match=r"train_ids\.txt: no such file"):
        ImageFolder(tmp_path).split("train")
    (tmp_path / "test_ids.txt").unlink()
    for path in (*tmp_path.glob("*.png"), *tmp_path.glob("*.PNG")):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"test_ids\.txt: no such file, and no photo in"):
        ImageFolder(tmp_path).split("test")


@pytest.mark.parametrize("coco", [True, False])
def test_json_without_captions(tmp_path, coco):
    """COCO's ``image_info_test2014.json``, and a file of Karpathy's kind whose test images have no sentences."""
    path = tmp_path / "image_info_test2014.json"
    names = [f"COCO_test2014_{number:012}.jpg" for number in (7, 8, 9)]
    entries = [{"id": int(name[-7:-4]), "file_name": name} for name in names]
    if not coco:
        entries = [{"filename": name, "split": "test2014", "sentences": []} for name in names]
    path.write_text(json.dumps({"images": entries}))
    np.save(tmp_path / "features.npy", FEATURES)
    split = KarpathyJson(path, tmp_path / "features.npy", test="test2014").split("test")
    assert_gallery(split, ["7", "8", "9"] if coco else names)
    report = check_path(path, features=tmp_path / "features.npy")
    assert report.ok, report.problems
    assert "test2014: a gallery, 3 images without captions" in report.found
    [found] = karpathy_lists(path, {"test": ["test2014"]})
    assert found.captions == [[], [], []]


def test_an_image_that_lacks_what_the_others_have_is_an_error(tmp_path):
    sentences = [{"raw": "a dog"}]
    entries = [{"filename": f"{i}.jpg", "split": "test", "sentences": sentences * (i != 1)} for i in range(3)]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": entries}))
    np.save(tmp_path / "features.npy", FEATURES)
    problem = r"images\[1\]: no sentences, which other images of split test have"
    with pytest.raises(ValueError, match=problem):
        KarpathyJson(tmp_path / "dataset.json", tmp_path / "features.npy").split("test")
    with pytest.raises(ValueError, match=problem):
        karpathy_lists(tmp_path / "dataset.json")
    assert len(check_path(tmp_path / "dataset.json").problems) == 1


def test_captions_of_images_beside_queries():
    split = ImageTextSplit(FEATURES, ["a dog", "a cat"], np.array([0, -1]))
    with pytest.raises(ValueError, match=r"dataset: captions: caption 1 \('a cat'\) is of no image: .*; recall needs"):
        split.check_pairs("recall")


def test_a_conversion_of_a_list_without_captions(tmp_path):
    """A file of features per photo and a list of the photos; captions of an earlier conversion do not stay."""
    features, lists, out = (tmp_path / name for name in ("features", "lists", "out"))
    for folder in (features, lists):
        folder.mkdir()
    for place, name in enumerate("abc"):
        np.save(features / f"{name}.npy", FEATURES[place])
    (lists / "test_ids.txt").write_text("c.jpg\na.jpg\n")
    (lists / "test_caps.txt").write_text("a cat\na dog\n")
    convert_data([features], out=out, lists=lists)
    assert PrecompFolder(out).split("test").captions == ["a cat", "a dog"]
    (lists / "test_caps.txt").unlink()
    convert_data([features], out=out, lists=lists, overwrite=True)
    split = PrecompFolder(out).split("test")
    assert_gallery(split, ["c.jpg", "a.jpg"])
    np.testing.assert_array_equal(split.image(0).features, FEATURES[2])
