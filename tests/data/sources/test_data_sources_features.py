import pickle

import numpy as np
import pytest
import torch

from itmatch.data import ImageTextSplit, PrecompFolder, check_path, open_regions
from itmatch.data.sources.features import ArrayFeatures, FolderFeatures
from itmatch.formats.arrays import open_array, save_array


def test_features_are_pickled_by_name(tmp_path):
    path = tmp_path / "x.npy"
    save_array(path, np.arange(1000 * 36 * 8, dtype=np.float32).reshape(1000, 36, 8))
    store = ArrayFeatures(open_array(path), rows=np.array([5, 3]))
    data = pickle.dumps(store)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert np.array_equal(again[1], store[1])
    assert again[1][0, 0] == 3 * 36 * 8


def test_array_features_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"rows 0\.\.7 asked for, it has 5"):
        ArrayFeatures(np.zeros((5, 2, 2), np.float32), rows=np.array([0, 7]))
    with pytest.raises(ValueError, match=r"int64 of shape \(5, 2, 2\), expected float16, float32 or float64"):
        ArrayFeatures(np.zeros((5, 2, 2), np.int64))
    with pytest.raises(ValueError, match="at least one region"):
        ArrayFeatures(np.zeros((5, 0, 2), np.float32))


def test_folder_features_of_differing_length(tmp_path):
    for i, regions in enumerate((2, 5)):
        np.save(tmp_path / f"{i}.npy", np.full((regions, 3), i, np.float16))
    store = FolderFeatures([tmp_path / "0.npy", tmp_path / "1.npy"])
    assert (store.feature_dim, store.num_regions, len(store)) == (3, None, 2)
    assert store[1].shape == (5, 3)
    np.save(tmp_path / "1.npy", np.zeros((5, 4), np.float16))
    with pytest.raises(ValueError, match=r"1\.npy: shape \(5, 4\), expected \(regions, 3\)"):
        store[1]


def test_vectors_grids_and_float64_are_regions(tmp_path):
    """Read from the map of the file, not from a copy."""
    values = np.random.default_rng(0).standard_normal((5, 2, 2, 3))
    given = {
        "float64": (values.reshape(5, 4, 3), None),
        "vectors": (values[:, 0, 0], None),
        "last": (values, None),
        "first": (np.ascontiguousarray(values.transpose(0, 3, 1, 2)), None),
        "long": (values.reshape(5, 1, 4, 3), "channels_last"),
        "tall": (np.ascontiguousarray(values.reshape(5, 4, 1, 3).transpose(0, 3, 1, 2)), "channels_first"),
    }
    for name, (array, grid) in given.items():
        np.save(tmp_path / f"{name}.npy", array)
        store = ArrayFeatures(open_array(tmp_path / f"{name}.npy"), rows=np.array([4, 1]), grid=grid)
        expected = values[1, :1, 0] if name == "vectors" else values[1].reshape(4, 3)
        np.testing.assert_array_equal(store[1], expected, err_msg=name)
        assert (store.num_regions, store.feature_dim, len(store)) == (len(expected), 3, 2)
        data = pickle.dumps(store)
        assert len(data) < 2000
        np.testing.assert_array_equal(pickle.loads(data)[1], expected)


def test_a_grid_that_does_not_tell_what_is_what():
    for shape in ((5, 1, 4, 3), (5, 2, 2, 2)):
        with pytest.raises(ValueError, match=r"x: a grid of shape .* channels_last .* channels_first"):
            ArrayFeatures(np.zeros(shape, np.float32), name="x")
    assert ArrayFeatures(np.zeros((5, 2, 2, 2), np.float32), grid="channels_first").num_regions == 4


def test_a_folder_of_npz_files_with_any_number_of_regions(tmp_path):
    """As bottom-up-attention.pytorch writes them, the pickled ``info`` and all; one photo has no region."""
    values = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for name, regions in (("a", 3), ("b", 0), ("c", 1)):
        np.savez(
            tmp_path / f"{name}.npz", x=values[:regions], bbox=np.zeros((regions, 4)), image_w=9, info={"a": object}
        )
    store = FolderFeatures([tmp_path / f"{name}.npz" for name in "abc"])
    assert (store.feature_dim, store.num_regions) == (4, None)
    assert [len(store[i]) for i in range(3)] == [3, 0, 1]
    np.testing.assert_array_equal(store[0], values)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        ([np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)], r"list, .* array \(np.stack makes one of"),
        (torch.ones(1, 1, 1), r"Tensor, .* array \(its .numpy\(\) is one\)"),
        (np.ma.masked_array(np.ones((1, 1, 1), np.float32), mask=True), "MaskedArray, .* array"),
    ],
)
def test_an_array_is_a_plain_one(array, told):
    with pytest.raises(TypeError, match=rf"dataset: features: a {told}.*, or a FeatureStore, which gives"):
        ImageTextSplit(array)


def records(images, regions, *, named=("features", "boxes", "image_w", "image_h")):
    """A structured array of (N,) records, with boxes in pixels; and its plain parts."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((images, regions, 6)).astype(np.float32)
    boxes = np.sort(rng.integers(0, 90, (images, regions, 2, 2)), axis=2).reshape(images, regions, 4)
    boxes[..., 2:] += 5
    kinds = [("f4", (regions, 6)), ("i4", (regions, 4)), ("i4", ()), ("i4", ())]
    found = np.zeros(images, [(name, *kind) for name, kind in zip(named, kinds, strict=True)])
    for name, values in zip(named, (features, boxes, 200, 100), strict=True):
        found[name] = values
    return found, features, boxes / np.array([200, 100, 200, 100])


@pytest.mark.parametrize("named", [("features", "boxes", "image_w", "image_h"), ("x", "bbox", "img_w", "img_h")])
def test_records_are_read_as_arrays(tmp_path, named):
    """A structured array: of a split, and of the regions of each photo."""
    found, features, boxes = records(3, 4, named=named)
    np.save(tmp_path / "train_ims.npy", found)
    (tmp_path / "train_caps.txt").write_text("a dog\n" * 6)
    split = PrecompFolder(tmp_path).split("train")
    again = pickle.loads(pickle.dumps(split))
    for place in range(3):
        for one in (split.image(place), again.image(place)):
            np.testing.assert_array_equal(one.features, features[place])
            np.testing.assert_allclose(one.boxes, boxes[place], rtol=1e-6)
    report = check_path(tmp_path)
    assert report.ok, report.problems
    assert "train: with train_ims.npy" in report.found

    record = open_regions([tmp_path / "train_ims.npy"], names=["a", "b", "c"]).read(1)
    np.testing.assert_array_equal(record.features, features[1])
    assert (record.name, record.size) == ("b", (200, 100))

    (tmp_path / "photos").mkdir()
    for place in range(3):
        regions = np.zeros(4, [("features", "f4", (6,)), ("bbox", "f4", (4,)), ("image_w", "i4"), ("image_h", "i4")])
        regions["features"], regions["bbox"] = features[place], boxes[place] * [200, 100, 200, 100]
        regions["image_w"], regions["image_h"] = 200, 100
        np.save(tmp_path / "photos" / f"{place}.npy", regions[: 4 * (place != 1)])
    reader = open_regions([tmp_path / "photos"])
    assert reader.counts == [4, 0, 4]
    record = reader.read(2)
    assert record.size == (200, 100)
    np.testing.assert_array_equal(record.features, features[2])
    np.testing.assert_allclose(record.boxes, boxes[2] * [200, 100, 200, 100], rtol=1e-6)


def test_records_without_features_are_named(tmp_path):
    found = records(3, 4, named=("numbers", "boxes", "image_w", "image_h"))[0]
    np.save(tmp_path / "train_ims.npy", found)
    np.save(tmp_path / "a.npy", found)
    (tmp_path / "train_caps.txt").write_text("a\nb\nc\n")
    message = r"train_ims\.npy: records of boxes, image_h, image_w, numbers, expected numbers, or a field features, x, "
    with pytest.raises(ValueError, match=message):
        PrecompFolder(tmp_path).split("train")
    with pytest.raises(ValueError, match=r"a\.npy: row 0: no features; found boxes, image_h, image_w"):
        open_regions([tmp_path / "a.npy"], names=["1", "2", "3"]).read(0)
