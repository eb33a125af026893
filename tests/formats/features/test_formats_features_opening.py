"""Every layout gives what was put in."""

import json

import numpy as np
import pytest
from helpers_layouts import (
    COUNTS,
    NUMBERS,
    SIZES,
    base64_of,
    photos,
    write_bottom_up,
    write_h5,
    write_lxmert,
    write_npy,
    write_npz,
    write_vinvl,
)

from itmatch.formats.features.opening import layout_of, open_regions

SIZE, BOXES, LABELS = "size", "boxes", "labels"
LAYOUTS = {
    "tsv, width first": (lambda f: write_bottom_up(f / "a.tsv"), {SIZE, BOXES}),
    "tsv, named by a number": (lambda f: write_bottom_up(f / "train.tsv.0"), {SIZE, BOXES}),
    "tsv, with names": (lambda f: write_bottom_up(f / "a.tsv", names=True), {SIZE, BOXES}),
    "tsv, seven fields": (lambda f: write_bottom_up(f / "a.tsv", extra=["AAAA"]), {SIZE, BOXES}),
    "tsv, by Python 3": (lambda f: write_bottom_up(f / "a.tsv", bytes_of_python_3=True), {SIZE, BOXES}),
    "tsv, LXMERT": (lambda f: write_lxmert(f / "a.tsv"), {SIZE, BOXES, LABELS}),
    "VinVL": (lambda f: write_vinvl(f / "v"), {SIZE, BOXES}),
    "VinVL, the file": (lambda f: write_vinvl(f / "v") / "features.tsv", {SIZE, BOXES}),
    "VinVL, three fields": (lambda f: write_vinvl(f / "v", form="fields"), {SIZE, BOXES}),
    "VinVL, no lineidx": (lambda f: write_vinvl(f / "v", lineidx=False), {SIZE, BOXES}),
    "VinVL, no predictions": (lambda f: write_vinvl(f / "v", predictions=False), set()),
    "VinVL, number last": (lambda f: write_vinvl(f / "v", number_last=True), {SIZE, BOXES}),
    "npz": (lambda f: write_npz(f / "n"), {SIZE, BOXES}),
    "npz, .jpg in the name": (lambda f: write_npz(f / "n", ending=".jpg.npz"), {SIZE, BOXES}),
    "npz, a column per region": (lambda f: write_npz(f / "n", "a column per region"), {SIZE, BOXES}),
    "npz, UNITER": (lambda f: write_npz(f / "n", "UNITER"), {BOXES}),
    "npz, feat": (lambda f: write_npz(f / "n", "feat"), set()),
    "npz, padded": (lambda f: write_npz(f / "n", "padded"), {SIZE, BOXES}),
    "npy": (lambda f: write_npy(f / "n"), set()),
    "npy, ViLBERT": (lambda f: write_npy(f / "n", "ViLBERT"), {SIZE, BOXES}),
    "npy, mmf": (lambda f: write_npy(f / "n", "mmf"), {SIZE, BOXES, LABELS}),
}
H5 = {
    "arrays": {SIZE, BOXES},
    "starts and ends": {SIZE, BOXES},
    "groups": {SIZE, BOXES, LABELS},
    "names": {SIZE, BOXES},
    "one array per photo": set(),
}


def check(reader, known, fractions=False):
    assert reader.names == list(COUNTS)
    assert reader.counts == list(COUNTS.values())
    for index in (2, 0, 1):  # in any order
        name, record = reader.names[index], reader.read(index)
        features, boxes, labels = photos()[name]
        assert record.name == name
        np.testing.assert_array_equal(record.features.reshape(-1, NUMBERS), features)
        assert record.size == (SIZES[name] if SIZE in known else None)
        assert (record.boxes is not None, record.labels is not None) == (BOXES in known, LABELS in known)
        if BOXES in known:
            scale = np.array([*SIZES[name], *SIZES[name]], np.float32) if fractions else 1
            np.testing.assert_allclose(record.boxes * scale, boxes, rtol=1e-6)
        if LABELS in known:
            np.testing.assert_array_equal(record.labels, labels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_put_in_comes_out(layout, tmp_path):
    write, known = LAYOUTS[layout]
    check(open_regions([write(tmp_path)]), known, fractions="UNITER" in layout)


@pytest.mark.parametrize("layout", H5)
def test_h5(layout, tmp_path):
    pytest.importorskip("h5py")
    check(open_regions([write_h5(tmp_path / "a.h5", layout)]), H5[layout])
    check(open_regions([write_h5(tmp_path / "texts.hdf5", layout)]), H5[layout])


def test_h5_says_what_it_needs(tmp_path, monkeypatch):
    import sys

    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'HDF5 files needs h5py: pip install "itmatch\[h5\]"'):
        open_regions([tmp_path / "a.h5"])


def test_h5_does_not_lead_to_other_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_h5(tmp_path / "secret.h5", "arrays")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = h5py.ExternalLink("secret.h5", "features")
    with pytest.raises(ValueError, match=r"a\.h5: 'features' points to another place, expected data"):
        open_regions([tmp_path / "a.h5"])
    (tmp_path / "raw").write_bytes(b"secrets" * 100)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("features", (3, 2, 4), "f4", external=[(str(tmp_path / "raw"), 0, 96)])
    with pytest.raises(ValueError, match=r"b\.h5: 'features' holds no numbers of its own"):
        open_regions([tmp_path / "b.h5"]).read(0)


def test_boxes_of_vinvl_are_its_last_six_numbers(tmp_path):
    box = np.array([[0.1, 0.2, 0.5, 0.9]], np.float32)
    rows = {"a": np.hstack([np.ones((1, 2048)), box, [[0.4, 0.7]]]), "b": np.ones((1, 2054))}
    lines = [f"{k}\t{json.dumps({'num_boxes': 1, 'features': base64_of(v.astype('f4'))})}\n" for k, v in rows.items()]
    (tmp_path / "features.tsv").write_text("".join(lines))
    reader = open_regions([tmp_path])
    np.testing.assert_array_equal(reader.read(0).boxes, box)
    assert reader.read(1).boxes is None


def test_arrays_of_all_photos(tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 2, 2, 4))
    for name, array in {"grid": values, "regions": values.reshape(3, 4, 4), "vectors": values[:, 0, 0]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert open_regions([tmp_path / "vectors.npy"], names=["a", "b", "c"]).names == ["a", "b", "c"]
    assert open_regions([tmp_path / "vectors.npy"]).read(2).features.shape == (1, 4)
    for name in ("grid", "regions"):
        reader = open_regions([tmp_path / f"{name}.npy"])
        assert reader.counts == [4] * 3
        np.testing.assert_array_equal(reader.read(1).features, values[1].reshape(4, 4))
    with pytest.raises(ValueError, match=r"grid\.npy: shape .*, expected a row for each of 2 photos"):
        open_regions([tmp_path / "grid.npy"], names=["a", "b"])


def test_several_tsv_files_are_one(tmp_path):
    first, second = write_bottom_up(tmp_path / "a.tsv.0"), tmp_path / "a.tsv.1"
    lines = first.read_text().splitlines(keepends=True)
    first.write_text(lines[0])
    second.write_text("".join(lines[1:]))
    check(open_regions([first, second]), {SIZE, BOXES})
    with pytest.raises(ValueError, match="a second source, expected one"):
        open_regions([write_npz(tmp_path / "n"), first])


LINE = ["7", "30", "20", "1", base64_of(np.ones(4, "f4")), base64_of(np.ones(3, "f4"))]


def changed(place, text):
    return "\t".join([*LINE[:place], text, *LINE[place + 1 :]]) + "\n"


BROKEN = {
    changed(3, "-1"): r"a\.tsv:1: num_boxes is '-1', expected a whole number",
    changed(3, "99999999"): r"a\.tsv:1: num_boxes is '99999999', expected a whole number of up to 100000",
    changed(3, "2"): r"a\.tsv:1: features: 12 bytes for 2 boxes, expected a multiple of 8, float32",
    changed(4, LINE[4][:-4]): r"a\.tsv:1: boxes: 15 bytes for 1 boxes, expected 16",
    changed(5, "%%%"): r"a\.tsv:1: features: no base64",
    changed(5, ""): r"a\.tsv:1: features: 0 bytes for 1 boxes",
    changed(1, "0"): r"a\.tsv:1: width and height \[0\.0, 20\.0\], expected positive numbers",
    changed(2, "x"): r"a\.tsv:1: width and height",
    "\t".join(LINE) + "\n1\t2\n": r"a\.tsv:2: 2 fields between tabs, expected 6 or 7 or 10",
    "1\t2\t3\t4\n": r"a\.tsv:1: 4 fields between tabs, expected 2, 3 or 6, 7, 10",
    "": r"a\.tsv:1: 1 fields between tabs",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_tsv_is_told_of(content, tmp_path):
    (tmp_path / "a.tsv").write_text(content)
    with pytest.raises(ValueError, match=BROKEN[content]):
        open_regions([tmp_path / "a.tsv"]).read(0)


def test_a_broken_vinvl_is_told_of(tmp_path):
    folder = write_vinvl(tmp_path / "v")
    index, boxes = folder / "features.lineidx", folder / "predictions.tsv"
    good = index.read_text(), boxes.read_text()
    for text in ("0\n5\n", "0\nx\n", "0\n99999999\n"):
        index.write_text(text)
        with pytest.raises(ValueError, match=r"features\.lineidx:2: .*, expected where a line of features\.tsv begins"):
            open_regions([folder])
    index.write_text(good[0])
    for old, new, said in (
        ('"rect"', '"rekt"', r"predictions\.tsv: '101': a 'rect' that is no four numbers"),
        ('"objects"', '"things"', r"predictions\.tsv: '101': expected json of a dict with a list 'objects'"),
        ("101\t", "109\t", r"predictions\.tsv: '101': no line of this photo"),
        ('"image_w": 640', '"image_w": -640', r"predictions\.tsv: '101': width and height"),
    ):
        boxes.write_text(good[1].replace(old, new))
        with pytest.raises(ValueError, match=said):
            open_regions([folder]).read(0)


REFUSED = {
    "a.lmdb": "an LMDB database",
    "a.pt": "a file of torch; write one .npy",
    "a.pkl": "a pickle; write one .npz a photo",
    "a.mat": "a file of MATLAB",
    "a.zip": "an archive; unpack it",
    "a.txt": r"a \.txt, expected \.tsv, \.h5, \.hdf5, \.npy, or a folder",
    "a": "a file without an ending, expected",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}: {REFUSED[name]}"):
        layout_of(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        layout_of(tmp_path / "nowhere")


def test_files_of_photos_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no \.npz or \.npy file in it"):
        open_regions([tmp_path / "empty"])
    for name, content, said in (
        ("a", {"y": np.ones(3)}, r"a\.npz: no features; it holds y, expected one of features, x"),
        ("b", {"x": np.ones((2, 3), int)}, r"b\.npz: features of int64, expected float16"),
        ("c", {"x": np.ones((2, 3)), "bbox": np.ones((1, 4))}, r"c\.npz: boxes float64 of shape \(1, 4\), expected"),
        ("d", {"x": np.array([print])}, r"d\.npz: x: holds pickled Python objects"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / f"{name}.npz", **content)
        with pytest.raises(ValueError, match=said):
            open_regions([folder]).read(0)
