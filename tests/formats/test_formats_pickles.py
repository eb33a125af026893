import io
import os
import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from itmatch.formats.pickles import holds_objects, parse_pickle, read_pickled_npy

PLAIN = {
    "numbers": [1, -2, 3.5, True, None, 2**70],
    "texts": ("a", "é", b"bytes"),
    "nested": {"a": {"b": []}, 3: [()]},
}
ARRAYS = {
    "features": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "scalar": np.float64(0.5),
    "none": np.zeros((0, 4), np.float16),
    "names": np.array(["a", "bcd"]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_was_put_in_comes_out(protocol):
    assert parse_pickle(pickle.dumps(PLAIN, protocol), "x") == PLAIN
    assert parse_pickle(pickle.dumps(OrderedDict(b=1, a=2), protocol), "x") == {"b": 1, "a": 2}
    found = parse_pickle(pickle.dumps([ARRAYS, ARRAYS["features"]], protocol), "x")
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[0][name], array)
    np.testing.assert_array_equal(found[1], ARRAYS["features"])  # the same object, named a second time


def test_a_pickle_of_python_2_is_read():
    """Made by ``pickle.dumps([{'image_w': 500, 'b': numpy.array([1.5])}], 2)`` of Python 2.7: texts are bytes."""
    data = (
        b"\x80\x02]q\x00}q\x01(U\x07image_wq\x02M\xf4\x01U\x01bq\x03cnumpy.core.multiarray\n_reconstruct\nq\x04"
        b"cnumpy\nndarray\nq\x05K\x00\x85q\x06U\x01bq\x07\x87q\x08Rq\t(K\x01K\x01\x85q\ncnumpy\ndtype\nq\x0bU\x02f8q\x0c"
        b"K\x00K\x01\x87q\rRq\x0e(K\x03U\x01<q\x0fNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x10b\x89"
        b"U\x08\x00\x00\x00\x00\x00\x00\xf8?q\x11tq\x12bua."
    )
    assert parse_pickle(data, "x") == [{"image_w": 500, "b": np.array([1.5])}]


def test_npy_files_of_objects(tmp_path):
    sizes = [{"image_w": 500, "image_h": 375}, {"image_w": 640, "image_h": 480}]
    np.save(tmp_path / "sizes.npy", np.array(sizes), allow_pickle=True)
    np.save(tmp_path / "info.npy", {"bbox": np.ones((2, 4), np.float32)}, allow_pickle=True)
    np.save(tmp_path / "plain.npy", np.ones(3))
    assert read_pickled_npy(tmp_path / "sizes.npy") == sizes
    assert read_pickled_npy(tmp_path / "info.npy")["bbox"].tolist() == [[1] * 4] * 2
    assert [holds_objects(tmp_path / f"{name}.npy") for name in ("sizes", "plain")] == [True, False]
    with pytest.raises(ValueError, match=r"plain\.npy: expected a \.npy file of pickled objects"):
        read_pickled_npy(tmp_path / "plain.npy")


class Command:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, subprocess.Popen, eval, getattr, np.load, np.fromfile])
def test_nothing_is_called(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (Command(function, "touch marker"), [{"image_w": Command(function, "touch marker")}]):
        with pytest.raises(ValueError, match=r"^evil: names \S+, expected plain values .* nothing was run$"):
            parse_pickle(pickle.dumps(value), "evil")
    assert not Path("marker").exists()


class Vocabulary:
    def __init__(self):
        self.word2idx, self.idx = {"a": 0}, 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_object_of_a_named_class_is_its_attributes(protocol):
    data = pickle.dumps(Vocabulary(), protocol)
    assert parse_pickle(data, "x", classes=["Vocabulary"]) == {"word2idx": {"a": 0}, "idx": 1}
    with pytest.raises(ValueError, match=r"names .*\.Vocabulary"):
        parse_pickle(data, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps(PLAIN)[:-9],
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes that are not there
        b"\x80\x02}()" + b"\x85" * 200_000 + b"Ns.",  # a key that is nested deeply
        b"\x80\x04]\x94h\x00b.",  # the state of a list
        b"\x80\x02cnumpy\ndtype\n(U\x03O99tR.",
    ],
)
def test_a_damaged_pickle_is_told_of(data):
    with pytest.raises(ValueError, match=r"^x: "):
        parse_pickle(data, "x")


def test_an_array_has_the_bytes_that_its_shape_needs():
    stream = io.BytesIO()
    pickle.dump(np.arange(3, dtype=np.int64), stream, 2)
    data = stream.getvalue().replace(b"K\x03\x85", b"J\x00\x00\x00\x7f\x85")
    assert data != stream.getvalue()
    with pytest.raises(ValueError, match=r"^x: no pickle of plain values, or a damaged one \(cannot reshape"):
        parse_pickle(data, "x")
