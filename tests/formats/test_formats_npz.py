"""Files of numpy and safetensors that are damaged, or made to do harm."""

import json
import re
import struct
import zipfile

import numpy as np
import pytest
import torch
from helpers_files import files_in, small_files
from safetensors.torch import save_file

from itmatch.formats.arrays import open_array, read_array
from itmatch.formats.npz import read_npz, write_npz
from itmatch.formats.tensors import read_safetensors


def npy(header, body=b""):
    raw = header.encode("latin1")
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(raw)) + raw + body


def of_shape(shape, dtype="<f4"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n"


HEADERS = {
    "unfinished": (of_shape("(2, 3")[:-6], r"not a \.npy file"),
    "brackets": ("(" * 300 + ")" * 300, r"not a \.npy file"),
    "open brackets": ("[" * 4000, r"not a \.npy file"),
    "open string": ("'''", r"not a \.npy file"),
    "thousands of digits": (of_shape(f"({'9' * 5000},)"), r"not a \.npy file"),
    "lengths that wrap": (
        of_shape("(4294967296, 4294967296)"),
        r"truncated, \d+ bytes where .* needs 737869762948382065\d\d$",
    ),
    "a length below zero": (of_shape("(-4, -6)"), r"shape \(-4, -6\), expected"),
    "a length of no end": (of_shape(f"({10**30},)"), "shape .*, expected up to 32 lengths"),
    "too many lengths": (of_shape(f"({'1, ' * 90})"), "shape .*, expected up to 32 lengths"),
    "an empty one of no end": (of_shape(f"(0, {2**61})"), "second array"),
    "objects": (of_shape("(2,)", "|O"), "pickled Python objects"),
    "large strings": (of_shape("(2,)", "<U999999999999"), r"not a \.npy file|truncated"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("read", [read_array, open_array])
def test_broken_headers_are_told_of_in_one_line(tmp_path, name, read):
    header, message = HEADERS[name]
    path = tmp_path / "x.npy"
    path.write_bytes(npy(header, bytes(64)))
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_good_arrays_are_read(tmp_path):
    path = tmp_path / "x.npy"
    for array in (np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)[:2]), np.array("text"), np.zeros((0, 3))):
        np.save(path, array)
        np.testing.assert_array_equal(read_array(path), array)
    with pytest.raises(FileNotFoundError, match=r"none\.npy: no such file"):
        read_array(tmp_path / "none.npy")
    with pytest.raises(FileNotFoundError, match="a folder"):
        read_array(tmp_path)


def test_a_character_that_there_is_not(tmp_path):
    np.save(tmp_path / "x.npy", np.array(["ab"]))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-1] + b"\xff")
    with pytest.raises(ValueError, match=r"x\.npy: holds a character"):
        read_array(tmp_path / "x.npy")


# --------------------------------------------------------------------------------------------------------------- npz


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_an_archive_that_would_unpack_to_gigabytes(tmp_path):
    path, count = tmp_path / "bomb.npz", 1 << 26
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open("a.npy", "w") as member:
        member.write(npy(of_shape(f"({count},)", "<i8")))
        for _ in range(count >> 17):
            member.write(bytes(8 << 17))
    assert path.stat().st_size < 4 << 20
    with pytest.raises(ValueError, match=rf"bomb\.npz: would unpack to {8 * count + 75} bytes"):
        read_npz(path, ["a"])


def test_an_archive_that_says_more_than_it_has(tmp_path):
    path = archive(tmp_path / "x.npz", a=npy(of_shape("(999999999999,)"), bytes(8)))
    with pytest.raises(ValueError, match=r"x\.npz: a: truncated"):
        read_npz(path, ["a"])


def good_archive(path):
    np.savez(path, a=np.arange(9), b=np.array(["x"]))
    return bytearray(path.read_bytes())


def test_damaged_archives_are_told_of(tmp_path):
    path = tmp_path / "x.npz"
    content = good_archive(path)
    assert read_npz(path, ["b", "a"])["a"].tolist() == list(range(9))
    at = content.index(struct.pack("<q", 5))
    damaged = {
        "a sum that does not fit": content[:at] + b"\x99" + content[at + 1 :],
        "cut": content[:-30],
        "encrypted": re.sub(rb"(PK\x01\x02....)..", lambda found: found[1] + b"\1\0", content, flags=re.DOTALL),
        "no archive": b"nothing",
        "empty": b"",
    }
    for broken in damaged.values():
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"x\.npz: no \.npz file of plain numbers \(.+\)$"):
            read_npz(path, ["a", "b"])
    good_archive(path)
    with pytest.raises(ValueError, match=r"x\.npz: no 'c' in it; it holds a, b, expected a, c"):
        read_npz(path, ["a", "c"])


# ------------------------------------------------------------------------------------------------------- safetensors


def test_damaged_safetensors_are_told_of(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(4.0), "b": torch.tensor([True, False])}, path, metadata={"ids": "[1]"})
    tensors, metadata = read_safetensors(path)
    assert (sorted(tensors), metadata) == (["a", "b"], {"ids": "[1]"})
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["a"]["shape"] = [2**40, 2**40]
    raw = json.dumps(header).encode()
    for broken in (b"", content[:5], content[:-1], b"\xff" * 8 + content[8:], struct.pack("<Q", len(raw)) + raw):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"x\.safetensors: no safetensors file, or a damaged one \(.+\)$"):
            read_safetensors(path)
    place = 8 + size + header["b"]["data_offsets"][0]
    path.write_bytes(content[:place] + b"\x07" + content[place + 1 :])
    with pytest.raises(ValueError, match=r"x\.safetensors: 'b' holds truth values that are neither 0 nor 1"):
        read_safetensors(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_safetensors(tmp_path / "none")


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_written_whole_or_not_at_all(tmp_path, compressed):
    arrays = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "names": np.array(["x", "ü"]), "one": np.array("digest")}
    write_npz(tmp_path / "a.npz", arrays, compressed=compressed)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert {name: read[name].tolist() for name in read} == {name: array.tolist() for name, array in arrays.items()}
    before = files_in(tmp_path)
    noise = np.random.default_rng(0).integers(0, 2**60, 500)
    with small_files(1000), pytest.raises(OSError, match=r"a\.npz: cannot be written \(File too large\)"):
        write_npz(tmp_path / "a.npz", {"a": noise}, compressed=compressed)
    assert files_in(tmp_path) == before
