"""Features of other layouts become a precomputed folder that reads as what was put in."""

import json
import tracemalloc

import numpy as np
import pytest
from helpers_cli import error_of, run
from helpers_files import files_in, small_files
from helpers_layouts import COUNTS, NUMBERS, SIZES, photos, write_bottom_up, write_h5, write_npz, write_vinvl

from itmatch.data import PrecompFolder, open_array
from itmatch.data.conversion.lists import karpathy_lists, text_lists
from itmatch.data.conversion.regions import Conversion, convert_regions
from itmatch.formats.features.opening import open_regions

SPLITS = {"101": "train", "102": "val", "103": "restval"}


def write_karpathy(path, splits=SPLITS, captions=2, **more):
    images = [
        {
            "split": split,
            "cocoid": int(name),
            "imgid": place,
            "filename": f"COCO_{int(name):012d}.jpg",
            "sentences": [{"raw": f"caption {i} of {name}"} for i in range(captions + more.get(name, 0))],
        }
        for place, (name, split) in enumerate(splits.items())
    ]
    path.write_text(json.dumps({"images": images}))
    return path


def write_lists(folder, splits=(("train", ["101", "103"]), ("dev", ["102"]))):
    folder.mkdir(exist_ok=True)
    for split, names in splits:
        (folder / f"{split}_ids.txt").write_text("".join(f"{name}.jpg\n" for name in names))
        captions = [f"caption {i} of {name}\n" for name in names for i in range(2)]
        (folder / f"{split}_caps.txt").write_text("".join(captions))
    return folder


def same(split, names, *, boxes=True, tolerance=0.0):
    """What is read is what was put in; a photo without regions is one region of zeros."""
    for index, name in enumerate(names):
        features, pixels, _ = photos()[name]
        item = split.image(index)
        expected = features if len(features) else np.zeros((1, NUMBERS))
        np.testing.assert_allclose(item.features.numpy(), expected, rtol=tolerance)
        if boxes:
            width, height = SIZES[name]
            scaled = pixels / [width, height, width, height] if len(pixels) else np.zeros((1, 4))
            np.testing.assert_allclose(item.boxes.numpy(), scaled, atol=1e-6)
        texts = [split.caption(c).text for c in np.flatnonzero(split.caption_image == index)]
        assert texts == [f"caption {i} of {name}" for i in range(len(texts))]
        assert texts


SOURCES = {
    "tsv": lambda f: write_bottom_up(f / "a.tsv"),
    "tsv, height first": lambda f: write_bottom_up(f / "a.tsv", height_first=True),
    "VinVL": lambda f: write_vinvl(f / "v"),
    "npz": lambda f: write_npz(f / "n"),
    "UNITER": lambda f: write_npz(f / "n", "UNITER"),
    "h5": lambda f: write_h5(f / "a.h5", "names"),
}


@pytest.mark.filterwarnings("ignore:.*images without regions")
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("whose", ["karpathy", "lists"])
def test_what_is_converted_is_what_was_put_in(source, whose, tmp_path, capsys):
    if source == "h5":
        pytest.importorskip("h5py")
    path, out = SOURCES[source](tmp_path), tmp_path / "out"
    made = write_karpathy(tmp_path / "k.json") if whose == "karpathy" else write_lists(tmp_path / "lists")
    assert run("data", "convert", path, f"--{whose}", made, "--out", out) == 0
    told = capsys.readouterr().out
    assert "train: 2 photos, 4 captions, (2, 3, 6) float32" in told
    assert "1 photo in which nothing was detected, the first is '103" in told
    data = PrecompFolder(out)
    same(data.split("train"), ["101", "103"])
    same(data.split("val"), ["102"])
    assert data.split("val").image_ids == (["102"] if whose == "karpathy" else ["102.jpg"])
    assert run("data", "check", out / "train_ims.npy") == 0


def test_float16_rounds_and_says_so(tmp_path, capsys):
    path, made = write_npz(tmp_path / "n"), write_karpathy(tmp_path / "k.json")
    assert run("data", "convert", path, "--karpathy", made, "--out", tmp_path / "out", "--dtype", "float16") == 0
    assert open_array(tmp_path / "out/dev_ims.npy").dtype == np.float16
    same(PrecompFolder(tmp_path / "out").split("val"), ["102"], tolerance=2**-11)
    np.savez(path / "102.npz", x=np.full((1, NUMBERS), 1e5))
    options = ["--no-boxes", "--dtype", "float16", "--overwrite"]
    message = error_of(capsys, "data", "convert", path, "--karpathy", made, "--out", tmp_path / "out", *options)
    assert message.endswith("features of '102': 100000 is beyond float16")


def test_photos_without_regions_or_features_are_left_out(tmp_path, capsys):
    path, made = write_npz(tmp_path / "n"), write_karpathy(tmp_path / "k.json", SPLITS | {"104": "train"})
    convert = ["data", "convert", path, "--karpathy", made, "--out", tmp_path / "out"]
    message = error_of(capsys, *convert)
    assert "no features of 1 of its 3 photos, the first is '104'; --missing drop leaves them out" in message
    assert not (tmp_path / "out").exists()
    assert run(*convert, "--missing", "drop", "--without-regions", "drop") == 0
    told = capsys.readouterr().out
    assert "train: 1 photo without features, the first is '104': left out" in told
    assert "train: 1 photo in which nothing was detected, the first is '103': left out" in told
    split = PrecompFolder(tmp_path / "out").split("train")
    assert split.image_ids == ["101"]
    same(split, ["101"])


@pytest.mark.filterwarnings("ignore:.*images without regions")
def test_any_number_of_captions(tmp_path):
    path, out = write_npz(tmp_path / "n"), tmp_path / "out"
    made = write_karpathy(tmp_path / "k.json", **{"101": 3})
    assert run("data", "convert", path, "--karpathy", made, "--out", out) == 0
    assert (out / "train_ids.txt").read_text().split() == ["101"] * 5 + ["103"] * 2
    split = PrecompFolder(out).split("train")
    assert split.caption_image.tolist() == [0] * 5 + [1] * 2
    same(split, ["101", "103"])


def test_the_first_captions_and_blank_ones(tmp_path):
    path, made = write_npz(tmp_path / "n"), write_karpathy(tmp_path / "k.json", captions=5, **{"102": 2})
    content = json.loads(made.read_text())
    content["images"][1]["sentences"][0]["raw"] = " \u200b"
    made.write_text(json.dumps(content))
    convert = ["data", "convert", path, "--karpathy", made, "--out", tmp_path / "out", "--captions-per-image", "5"]
    assert run(*convert) == 0
    assert (tmp_path / "out/dev_caps.txt").read_text() == "".join(f"caption {i} of 102\n" for i in range(1, 6))
    assert (tmp_path / "out/dev_ids.txt").read_text() == "102\n"


def test_a_split_alone_consists_of_what_it_usually_does(tmp_path):
    path, made = (
        write_npz(tmp_path / "n"),
        write_karpathy(tmp_path / "k.json", {"101": "train", "102": "val", "103": "restval"}),
    )
    convert = ["data", "convert", path, "--karpathy", made, "--out"]
    assert run(*convert, tmp_path / "all") == 0
    for name in ("dev", "train"):
        assert run(*convert, tmp_path / name, "--split", name) == 0
        assert (tmp_path / name / f"{name}_ids.txt").read_text() == (tmp_path / f"all/{name}_ids.txt").read_text()
    assert run(*convert, tmp_path / "val", "--split", "val") == 0
    assert (tmp_path / "val/val_ids.txt").read_text() == (tmp_path / "all/dev_ids.txt").read_text()
    assert [one.split for one in karpathy_lists(made, {"dev": ()})] == ["dev"]
    with pytest.raises(ValueError, match="no image of split other, named for other; there: restval, train, val"):
        karpathy_lists(made, {"other": ()})


def test_parts_of_a_json_and_numbers_of_a_region(tmp_path):
    path, out = write_npz(tmp_path / "n"), tmp_path / "out"
    made = write_karpathy(tmp_path / "k.json")
    convert = ["data", "convert", path, "--karpathy", made, "--out", out]
    assert run(*convert, "--split", "test=train,val", "--numbers", "4") == 0
    split = PrecompFolder(out).split("test")
    assert (split.feature_dim, split.image_ids) == (4, ["101", "102"])
    np.testing.assert_array_equal(split.image(0).features, photos()["101"][0][:, :4])


def test_nothing_is_replaced_unless_asked_for_and_old_columns_go(tmp_path, capsys):
    path, out, made = write_npz(tmp_path / "n"), tmp_path / "out", write_karpathy(tmp_path / "k.json")
    convert = ["data", "convert", path, "--karpathy", made, "--out", out]
    assert run(*convert) == 0
    before = files_in(out)
    assert "out/train_ims.npy: there is one already; --overwrite replaces it" in error_of(capsys, *convert)
    assert files_in(out) == before
    np.save(out / "train_relations.npy", np.zeros((2, 1, 3), int))  # of the regions that were there
    assert run(*convert, "--overwrite", "--no-boxes", "--split", "train=train") == 0
    kept = {name for name in before if name.startswith("dev")}
    assert set(files_in(out)) == kept | {"train_ims.npy", "train_ids.txt", "train_caps.txt"}


@pytest.mark.parametrize("limit", [200, 600])
def test_a_full_disk_leaves_everything_as_it_was(limit, tmp_path, capsys):
    path, out, made = write_npz(tmp_path / "n"), tmp_path / "out", write_karpathy(tmp_path / "k.json")
    features = np.ones((200, NUMBERS), np.float32)
    np.savez(path / "101.npz", x=features, bbox=np.tile([0, 0, 3, 3], (200, 1)), image_w=640, image_h=480)
    out.mkdir()
    (out / "train_ims.npy").write_bytes(b"as it was")
    with small_files(limit * 10):
        message = error_of(capsys, "data", "convert", path, "--karpathy", made, "--out", out, "--overwrite")
    assert "cannot be written (File too large)" in message
    assert files_in(out) == {"train_ims.npy": b"as it was"}


def test_a_broken_photo_leaves_everything_as_it_was(tmp_path, capsys):
    path, out, made = write_npz(tmp_path / "n"), tmp_path / "out", write_karpathy(tmp_path / "k.json")
    for content, said in (
        ({"x": np.full((2, NUMBERS), np.nan)}, "features of '102': NaN or inf"),
        ({"x": np.ones((2, NUMBERS)), "bbox": np.full((2, 4), 9)}, "boxes in pixels without width and height"),
        ({"x": np.ones((2, NUMBERS)), "bbox": np.tile([0, 0, 9, 9], (2, 1)), "image_w": 4, "image_h": 9}, "has box"),
    ):
        np.savez(path / "102.npz", **content)
        assert said in error_of(capsys, "data", "convert", path, "--karpathy", made, "--out", out)
        assert files_in(out) == {}


def test_the_memory_does_not_grow_with_the_features(tmp_path):
    """Features of 16 MB are written with room for a few photos."""
    folder, names = tmp_path / "n", [f"{i}" for i in range(64)]
    folder.mkdir()
    for name in names:
        np.save(folder / f"{name}.npy", np.full((16, 4096), int(name), np.float32))
    lists = text_lists(write_lists(tmp_path / "lists", [("train", names)]))
    tracemalloc.start()
    convert_regions(open_regions([folder]), lists, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out/train_ims.npy").stat().st_size > 16 << 20
    assert peak < 4 << 20
    assert open_array(tmp_path / "out/train_ims.npy")[:, 0, 0].tolist() == list(range(64))


def test_names_of_photos_that_fit_in_two_ways(tmp_path, capsys):
    folder = tmp_path / "n"
    folder.mkdir()
    for name in ("0", "1"):
        np.save(folder / f"{name}.npy", np.full((1, 2), int(name), np.float32))
    images = [{"split": "train", "cocoid": 1 - i, "imgid": i, "filename": f"{i}.jpg", "sentences": [{"raw": "a"}]}
              for i in range(2)]  # fmt: skip
    (tmp_path / "k.json").write_text(json.dumps({"images": images}))
    convert = ["data", "convert", folder, "--karpathy", tmp_path / "k.json", "--out", tmp_path / "out"]
    assert "fit the files and mean different photos; say which by --key" in error_of(capsys, *convert)
    assert "no key 'x', expected cocoid, imgid, filename, stem" in error_of(capsys, *convert, "--key", "x")
    for key, values in (("cocoid", [1, 0]), ("imgid", [0, 1])):
        assert run(*convert, "--key", key, "--overwrite") == 0
        assert open_array(tmp_path / "out/train_ims.npy")[:, 0, 0].tolist() == values


@pytest.mark.filterwarnings("ignore:.*images without regions")
def test_numbers_may_be_filled_up_with_zeros(tmp_path):
    """As the files of COCO of 2017 are."""
    path, made = write_npz(tmp_path / "n"), write_karpathy(tmp_path / "k.json")
    for file in list(path.iterdir()):
        file.rename(path / f"{file.stem:0>12}.npz")
    assert run("data", "convert", path, "--karpathy", made, "--out", tmp_path / "out", "--key", "cocoid") == 0
    same(PrecompFolder(tmp_path / "out").split("train"), ["101", "103"])


def test_photos_of_other_data(tmp_path, capsys):
    path, made = write_npz(tmp_path / "n"), write_karpathy(tmp_path / "k.json", {"7": "train"})
    message = error_of(capsys, "data", "convert", path, "--karpathy", made, "--out", tmp_path / "out")
    assert "features of none of its photos; it calls the first one 0, 7, COCO_000000000007" in message
    assert "the files have 101, 102, 103" in message


def test_the_command_says_what_it_needs(tmp_path, capsys):
    path = write_npz(tmp_path / "n")
    message = error_of(capsys, "data", "convert", path, "--out", tmp_path / "out")
    assert message.startswith("one of the arguments --karpathy --lists is required")
    convert = ["data", "convert", path, "--out", tmp_path / "out"]
    assert "no SPLIT_ids.txt with SPLIT_caps.txt" in error_of(capsys, *convert, "--lists", path)
    made = write_karpathy(tmp_path / "k.json")
    message = error_of(capsys, *convert, "--karpathy", made, "--split", "dev=dev")
    assert "no image of split dev, named for dev; there: restval, train, val" in message
    message = error_of(capsys, *convert, "--karpathy", made, "--numbers", "0")
    assert "numbers: 0, expected 1 or more" in message


def test_in_python(tmp_path):
    reader = open_regions([write_npz(tmp_path / "n")])
    lists = karpathy_lists(write_karpathy(tmp_path / "k.json"), {"dev": ["val"]})
    told = convert_regions(reader, lists, tmp_path / "out", Conversion("float16", boxes=False))
    assert told == ["dev: 1 photo, 2 captions, (1, 2, 6) float16 (2.4e-08 GB)"]
    assert COUNTS["102"] == 2
