"""Folders of Hugging Face datasets become folders of photos."""

import io
import sys

import numpy as np
import pytest
from helpers_cli import error_of, run
from helpers_files import files_in

from itmatch.data import ImageFolder, PhotoPatches

pyarrow = pytest.importorskip("pyarrow")
Image = pytest.importorskip("PIL.Image")
from pyarrow import ipc, parquet  # noqa: E402 - after the skip

PLAIN = PhotoPatches(image_size=16, patch_size=16, mean=[0, 0, 0], std=[1, 1, 1])


def photo(seed):
    values = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return values, stream.getvalue()


def rows(count=3, splits=("train", "val", "test")):
    """The columns of nlphuji/flickr30k."""
    return [
        {
            "image": {"bytes": photo(i)[1], "path": None},
            "caption": [f"caption {c} of {i}" for c in range(2)],
            "sentids": [str(2 * i), str(2 * i + 1)],
            "split": splits[i % len(splits)],
            "img_id": str(i),
            "filename": f"{100 + i}.png",
        }
        for i in range(count)
    ]


def save_arrow(folder, content):
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(content)
    with ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    return folder


def save_parquet(folder, content, name="test-00000-of-00001"):
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(content), folder / f"{name}.parquet")
    return folder


def check(out, stage, index, count=1):
    split = ImageFolder(out, extractor=PLAIN).split(stage)
    assert (split.num_images, split.num_captions) == (count, 2 * count)
    pixels = split.image(0).features.numpy().reshape(3, 16, 16)
    np.testing.assert_allclose(pixels, photo(index)[0].transpose(2, 0, 1) / 255, rtol=1e-5)
    assert split.caption(1).text == f"caption 1 of {index}"


@pytest.mark.parametrize("save", [save_arrow, save_parquet])
def test_what_was_put_in_comes_out(save, tmp_path, capsys):
    source, out = save(tmp_path / "hub" / "test", rows()), tmp_path / "out"
    assert run("data", "convert", source.parent, "--out", out) == 0
    assert f"train: 1 photo, 2 captions, in {out / 'images'}" in capsys.readouterr().out
    for index, stage in enumerate(("train", "val", "test")):
        check(out, stage, index)
    assert "images: there is one already" in error_of(capsys, "data", "convert", source.parent, "--out", out)


def test_without_a_column_the_file_or_its_folder_is_the_split(tmp_path):
    content = [{key: row[key] for key in ("image", "caption", "img_id")} for row in rows(4)]
    save_parquet(tmp_path / "a" / "data", content[:2], "validation-00000-of-00001")
    save_parquet(tmp_path / "a" / "data", content[2:], "train-00000-of-00001")
    save_arrow(tmp_path / "b" / "train", content[:2])
    save_arrow(tmp_path / "b" / "validation", content[2:])
    for name, stages in (("a", {"val": 0, "train": 2}), ("b", {"train": 0, "val": 2})):
        assert run("data", "convert", tmp_path / name, "--out", tmp_path / f"out {name}") == 0
        for stage, first in stages.items():
            check(tmp_path / f"out {name}", stage, first, 2)
    assert (tmp_path / "out a/dev_ids.txt").read_text().split() == ["0.png", "1.png"]


def wrong(**changed):
    return [rows()[0] | changed]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (wrong(filename="../evil.png"), r"row 0: photo '../evil.png', expected the name of a file"),
        (wrong(filename="a/evil.png"), r"row 0: photo 'a/evil.png', expected"),
        (wrong(filename="/evil.png"), r"row 0: photo '/evil.png', expected"),
        (wrong(filename=".hidden"), r"row 0: photo '.hidden', expected"),
        (wrong(split="../evil"), "a split called '../evil', expected letters and digits"),
        (wrong(image="no photo"), "row 0: no photo under 'image'; columns there: caption, filename"),
        (wrong(caption=[]), "row 0: no text under any of captions, caption, "),
        (wrong(caption=[" "]), "caps.txt:1: empty caption"),
        (rows(1) * 2, "row 1: photo '100.png' is there already"),
    ],
)
def test_a_wrong_row_is_told_of_and_leaves_nothing(content, said, tmp_path, capsys):
    save_parquet(tmp_path / "hub", content)
    assert said in error_of(capsys, "data", "convert", tmp_path / "hub", "--out", tmp_path / "out")
    assert files_in(tmp_path / "out") == {}


def test_damaged_files_and_a_missing_library(tmp_path, capsys, monkeypatch):
    for name in ("a.arrow", "a.parquet"):
        folder = tmp_path / name.replace(".", "")
        folder.mkdir()
        (folder / name).write_bytes(b"nothing of this kind")
        message = error_of(capsys, "data", "convert", folder, "--out", tmp_path / "out")
        assert f"{name}: no file of datasets that can be read" in message
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = error_of(capsys, "data", "convert", tmp_path / "aarrow", "--out", tmp_path / "out")
    assert 'reading folders of datasets needs pyarrow: pip install "itmatch[arrow]"' in message
