import pytest

from itmatch.data.textfiles import read_lines
from itmatch.files import read_json


def test_lines(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("a\u2028b\r\n\nlast".encode())
    assert read_lines(path) == ["a\u2028b", "", "last"]
    path.write_bytes(b"a\n")
    assert read_lines(path) == ["a"]
    path.write_bytes(b"")
    assert read_lines(path) == []


def test_bad_text(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\nb\nc\xe9\n")
    with pytest.raises(ValueError, match=r"x\.txt:3: not UTF-8 \(byte 0xe9\)"):
        read_lines(path)
    with pytest.raises(FileNotFoundError, match=r"y\.txt: no such file"):
        read_lines(tmp_path / "y.txt")


def test_json(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[1]")
    assert read_json(path, list) == [1]
    with pytest.raises(ValueError, match="holds a list, expected a dict"):
        read_json(path)
    path.write_text('{"a": 1,\n}')
    with pytest.raises(ValueError, match=r"x\.json:2: not json"):
        read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="not UTF-8"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_json(tmp_path / "y.json")
