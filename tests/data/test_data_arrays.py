import os

import numpy as np
import pytest

from itmatch.data.arrays import open_array, save_array


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


def test_what_follows_the_array_is_not_passed_over(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        for value in (1, 2):
            np.save(file, np.full(3, value))
    with pytest.raises(ValueError, match=r"x\.npy: 304 bytes where shape \(3,\) int64 needs 152; is there a second"):
        open_array(tmp_path / "x.npy")
