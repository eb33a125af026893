import pickle

import numpy as np
import pytest

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
    with pytest.raises(ValueError, match="float64"):
        ArrayFeatures(np.zeros((5, 2, 2)))
    with pytest.raises(ValueError, match="at least one region"):
        ArrayFeatures(np.zeros((5, 0, 2), np.float32))


def test_folder_features_of_differing_length(tmp_path):
    for i, regions in enumerate((2, 5)):
        np.save(tmp_path / f"{i}.npy", np.full((regions, 3), i, np.float16))
    store = FolderFeatures([tmp_path / "0.npy", tmp_path / "1.npy"])
    assert (store.feature_dim, store.num_regions, len(store)) == (3, None, 2)
    assert store[1].shape == (5, 3)
    np.save(tmp_path / "1.npy", np.zeros((5, 4), np.float16))
    with pytest.raises(ValueError, match=r"1\.npy: shape \(5, 4\), expected \(one or more regions, 3\)"):
        store[1]


@pytest.mark.parametrize("array", [[[[1.0]]], np.ma.masked_array(np.ones((1, 1, 1), np.float32), mask=True)])
def test_an_array_is_a_plain_one(array):
    with pytest.raises(TypeError, match=r"x: a (list|MaskedArray), expected a numpy array"):
        ArrayFeatures(array, name="x")
