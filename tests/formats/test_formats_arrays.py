import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from itmatch.formats.arrays import PickledByFile, open_array, save_array, take_rows


def test_open_maps_the_file_and_never_writes_to_it(tmp_path):
    path = tmp_path / "x.npy"
    save_array(path, np.arange(6, dtype=np.float32).reshape(2, 3))
    array = open_array(path, ndim=2, dtypes=["float32"])
    assert isinstance(array, np.memmap)
    array[0, 0] = 9
    assert np.load(path)[0, 0] == 0


def test_save_leaves_no_temporary_file_and_keeps_the_old_one_on_failure(tmp_path):
    path = tmp_path / "x.npy"
    save_array(path, np.zeros(3))
    with pytest.raises(ValueError, match="Object arrays"):
        save_array(path, np.array([{}], dtype=object))
    assert os.listdir(tmp_path) == ["x.npy"]
    assert open_array(path).shape == (3,)


def test_empty_array_can_be_opened(tmp_path):
    save_array(tmp_path / "x.npy", np.zeros((0, 3), np.float32))
    assert open_array(tmp_path / "x.npy").shape == (0, 3)


def _truncated(path):
    np.save(path, np.zeros((10, 10), np.float32))
    path.write_bytes(path.read_bytes()[:-7])


BAD = {
    r"truncated, 521 bytes where shape \(10, 10\) float32 needs 528": _truncated,
    r"not a \.npy file \(EOF: reading array header": lambda p: (
        np.save(p, np.zeros(3)),
        p.write_bytes(p.read_bytes()[:40]),
    ),
    r"pickled Python objects": lambda p: np.save(p, np.array([{"a": 1}], dtype=object), allow_pickle=True),
    r"not a \.npy file \(EOF: reading magic string": lambda p: p.write_bytes(b""),
    r"not a \.npy file \(the magic string": lambda p: p.write_bytes(b"some text that is long enough"),
    r"shape \(2, 2, 2\), expected 2 dimensions": lambda p: np.save(p, np.zeros((2, 2, 2), np.float32)),
    r"dtype int64, expected float16 or float32": lambda p: np.save(p, np.zeros((2, 2), np.int64)),
    r"foreign byte order": lambda p: np.save(p, np.zeros((2, 2), ">f4")),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_named_in_one_line(tmp_path, message):
    path = tmp_path / "bad_ims.npy"
    BAD[message](path)
    with pytest.raises(ValueError, match=message) as caught:
        open_array(path, ndim=2, dtypes=["float16", "float32"])
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_array(tmp_path / "x.npy")
    with pytest.raises(FileNotFoundError, match="a folder"):
        open_array(tmp_path)


class Holder(PickledByFile):
    def __init__(self, *arrays):
        for i, array in enumerate(arrays):
            setattr(self, f"array_{i}", array)


def mapped(tmp_path, name="x.npy", rows=1000):
    save_array(tmp_path / name, np.arange(rows * 12, dtype=np.int32).reshape(rows, 4, 3))
    return open_array(tmp_path / name)


PARTS = {
    "all": lambda a: a,
    "some": lambda a: a[5:800],
    "every third": lambda a: a[2::3],
    "backwards": lambda a: a[::-1],
    "a column": lambda a: a[:, 1:, 2],
    "turned": lambda a: a.T,
    "other numbers": lambda a: a.view(np.uint16),
    "a plain view": np.asarray,
    "a part of a part": lambda a: np.asarray(a[10:])[3:],
}


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_a_map_are_pickled_by_the_name_of_the_file(tmp_path, part):
    array = PARTS[part](mapped(tmp_path))
    once = pickle.dumps(Holder(array))
    assert len(once) < 1000
    twice = pickle.dumps(pickle.loads(once))
    assert len(twice) < 1000
    for data in (once, twice):
        again = pickle.loads(data).array_0
        assert again.dtype == array.dtype
        assert np.array_equal(again, array)
    again[...] = 0
    assert mapped(tmp_path).any()  # the file is as it was


def test_the_user_maps_too(tmp_path):
    for order in "CF":
        np.save(tmp_path / "x.npy", np.arange(8000.0).reshape((80, 100), order=order))
        array = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert np.array_equal(pickle.loads(pickle.dumps(Holder(array))).array_0, array)
        assert len(pickle.dumps(Holder(array))) < 1000
    raw = np.memmap(tmp_path / "raw", np.int16, "w+", offset=6, shape=(3000,))
    raw[:] = np.arange(3000)
    assert np.array_equal(pickle.loads(pickle.dumps(Holder(raw[7:]))).array_0, np.arange(7, 3000))


@pytest.mark.parametrize(
    "array", [np.arange(3), np.ma.masked_array(np.arange(3), [1, 0, 0]), np.zeros((0, 3)), None, "a"]
)
def test_what_is_in_no_file_is_pickled_by_value(tmp_path, array):
    again = pickle.loads(pickle.dumps(Holder(array, mapped(tmp_path)[3:3])))
    assert type(again.array_0) is type(array)
    assert np.array_equal(again.array_0, array)
    assert again.array_1.shape == (0, 4, 3)
    taken = mapped(tmp_path)[[3, 1]]
    assert np.array_equal(pickle.loads(pickle.dumps(Holder(taken))).array_0, taken)
    masked = np.ma.masked_array(mapped(tmp_path), mapped(tmp_path) == 7)  # has more to it than the map
    assert pickle.loads(pickle.dumps(Holder(masked))).array_0.mask.sum() == 1


def test_a_relative_name_holds_in_another_folder(tmp_path, monkeypatch):
    mapped(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Holder(open_array("x.npy")))
    monkeypatch.chdir("/")
    assert pickle.loads(data).array_0.any()


def test_a_file_that_was_replaced_is_not_taken_for_the_one_that_was_opened(tmp_path):
    array = mapped(tmp_path)
    holder, data = Holder(array), pickle.dumps(Holder(array))
    os.utime(tmp_path / "x.npy", (0, 0))
    assert pickle.dumps(holder) == data  # it is the same file
    save_array(tmp_path / "x.npy", np.zeros_like(array))
    with pytest.raises(ValueError, match=r"x\.npy: was replaced since it was opened"):
        pickle.dumps(holder)
    assert array.any()
    save_array(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"x\.npy: was replaced since it was opened"):
        pickle.loads(data)
    os.remove(tmp_path / "x.npy")
    for function, given in ((pickle.dumps, holder), (pickle.loads, data)):
        with pytest.raises(FileNotFoundError, match=r"x\.npy"):
            function(given)


@pytest.mark.parametrize("rows", [[0], [3, 4, 5], [1, 4, 7, 10], [5, 4], [2, 2, 2], [0, 1, 3], []])
def test_rows(tmp_path, rows):
    array, rows = mapped(tmp_path), np.array(rows, np.int64)
    taken = take_rows(array, rows)
    assert np.array_equal(taken, np.asarray(array)[rows])
    assert np.shares_memory(taken, array) == (rows.tolist() in ([0], [3, 4, 5], [1, 4, 7, 10]))


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_array("~/x.npy", np.zeros(3))
    assert open_array(Path("~/x.npy")).shape == (3,)
    assert os.listdir(tmp_path) == ["x.npy"]


def test_what_follows_the_array_is_not_passed_over(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        for value in (1, 2):
            np.save(file, np.full(3, value))
    with pytest.raises(ValueError, match=r"x\.npy: 304 bytes where shape \(3,\) int64 needs 152; is there a second"):
        open_array(tmp_path / "x.npy")
