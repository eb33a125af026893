"""What a reader takes, the check calls ok; what it refuses, the check calls a problem, in the reader's own words."""

import json
import shutil
import warnings

import numpy as np
import pytest
from helpers_cli import write_precomp
from helpers_layouts import write_bottom_up, write_h5, write_npz, write_vinvl

from itmatch.data import CaptionRelations, ImageFolder, KarpathyJson, PhotoPatches, PrecompFolder, check_path

STAGES = ("train", "val", "test")


def everything(source):
    """Read all of a dataset; the messages of what is refused, one per split."""
    told = []
    for stage in STAGES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                split = source.split(stage)
            for i in range(split.num_images):
                split.image(i)
            for i in range(split.num_captions):
                split.caption(i)
        except (ValueError, OSError) as error:
            told.append(str(error))
    return told


def save(name, array):
    return lambda folder: np.save(folder / f"train_{name}.npy", array)


def lines(name, *texts, end="\n"):
    return lambda folder: (folder / f"train_{name}.txt").write_bytes("".join(text + end for text in texts).encode())


def change(name, place, value):
    def changed(folder):
        array = np.load(folder / f"train_{name}.npy")
        array[place] = value
        np.save(folder / f"train_{name}.npy", array)

    return changed


def cut(name):
    def shorter(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return shorter


def both(first, second):
    return lambda folder: (first(folder), second(folder))


def relations_of_others(folder):
    CaptionRelations.pack([[]] * 8).save(folder / "train_caption_relations.npz", ["other"] * 8)


def vectors(folder):
    for split in ("train", "dev", "test"):
        np.save(folder / f"{split}_ims.npy", FEATURES[:, 0])
        for name in ("boxes", "relations", "relation_scores"):
            (folder / f"{split}_{name}.npy").unlink()


def grids(folder, *shapes):
    """The first split alone: a check compares the sizes of the others."""
    vectors(folder)
    for split, shape in zip(("train", "dev"), shapes, strict=True):
        np.save(folder / f"{split}_ims.npy", RANDOM.standard_normal(shape).astype(np.float32))


EIGHT = [f"a dog {i}" for i in range(8)]
RANDOM = np.random.default_rng(1)
FEATURES = RANDOM.standard_normal((4, 3, 6)).astype(np.float32)

FOLDERS = {
    "as it is": lambda folder: None,
    "blank lines at the end": lines("caps", *EIGHT, "", "", end="\r\n"),
    "a byte order mark": lines("caps", "\ufeffa dog", *EIGHT[1:]),
    "a blank caption": lines("caps", " ", *EIGHT[1:]),
    "blank captions alone": lines("caps", " ", "", *EIGHT[2:]),
    "a caption too many": lines("caps", *EIGHT, "a cat"),
    "captions that are no UTF-8": lambda folder: (folder / "train_caps.txt").write_bytes(b"\xff\n" * 8),
    "captions that are UTF-16": lambda folder: (folder / "train_caps.txt").write_text("a\n" * 8, "utf-16"),
    "no captions": lines("caps"),
    "captions that are not there": lambda folder: (folder / "train_caps.txt").unlink(),
    "features that are not there": lambda folder: (folder / "train_ims.npy").unlink(),
    "an image id per image": lines("ids", "a", "b", "c", "d"),
    "an image id per caption": lines("ids", *"aabbccdd"),
    "an id per caption": lines("ids", *"abcdefgh"),
    "ids that come twice": lines("ids", "a", "b", "a", "d"),
    "ids of another split": lines("ids", "a", "b"),
    "an empty id": lines("ids", "a", "", "c", "d"),
    "features per caption": save("ims", FEATURES.repeat(2, 0)),
    "float64": save("ims", FEATURES.astype(np.float64)),
    "a vector per image": lambda folder: vectors(folder),
    "a grid per image": lambda folder: grids(folder, (4, 1, 3, 6), (4, 2, 2, 6)),
    "a grid that does not tell": lambda folder: grids(folder, (4, 2, 2, 2), (4, 1, 3, 6)),
    "images without regions": both(save("lengths", np.array([3, 0, 3, 3])), change("relations", 1, -1)),
    "boxes of integers": both(save("boxes", np.tile([0, 0, 50, 60], (4, 3, 1))), save("sizes", np.full((4, 2), 100))),
    "sizes of GSMN": both(
        save("boxes", np.tile([0.0, 0, 50, 60], (4, 3, 1))),
        lambda folder: np.save(folder / "train_ims_size.npy", [{"image_w": 60, "image_h": 50}] * 4, allow_pickle=True),
    ),
    "features of integers": save("ims", FEATURES.astype(np.int32)),
    "features of complex numbers": save("ims", FEATURES.astype(np.complex64)),
    "no regions": save("ims", FEATURES[:, :0]),
    "half of the features": cut("train_ims.npy"),
    "pickled features": lambda folder: np.save(folder / "train_ims.npy", np.array([{}] * 4), allow_pickle=True),
    "features with NaN": change("ims", (1, 2, 3), np.nan),
    "features with infinity": change("ims", (3, 0, 0), -np.inf),
    "zeros alone": change("ims", 2, 0),
    "lengths": save("lengths", np.array([3, 2, 1, 3])),
    "NaN beyond the length": both(save("lengths", np.full(4, 2)), change("ims", (0, 2), np.nan)),
    "lengths that are too large": save("lengths", np.array([3, 2, 1, 4])),
    "lengths of floats": save("lengths", np.ones(4)),
    "lengths of other images": save("lengths", np.ones(3, int)),
    "relations beyond the length": save("lengths", np.ones(4, int)),
    "boxes turned over": change("boxes", (0, 0), [0.5, 0.5, 0.1, 0.1]),
    "boxes of NaN": change("boxes", (0, 0), np.nan),
    "boxes rounded to pixels": change("boxes", (0, 0), [-0.005, 0, 1.005, 1]),
    "boxes in pixels without sizes": save("boxes", np.tile([0.0, 0, 50, 60], (4, 3, 1))),
    "boxes in pixels": both(save("boxes", np.tile([0.0, 0, 50, 60], (4, 3, 1))), save("sizes", np.full((4, 2), 100))),
    "sizes of 0": both(save("boxes", np.tile([0.0, 0, 50, 60], (4, 3, 1))), save("sizes", np.zeros((4, 2)))),
    "labels": save("labels", np.full((4, 3), -1)),
    "labels of floats": save("labels", np.ones((4, 3))),
    "labels below -1": save("labels", np.full((4, 3), -2)),
    "relations of no region": change("relations", (0, 0), [0, 1, 3]),
    "relations of another shape": save("relations", np.zeros((4, 5, 2), int)),
    "scores without relations": lambda folder: (folder / "train_relations.npy").unlink(),
    "scores above 1": save("relation_scores", np.full((4, 5), 1.5)),
    "relations of other captions": relations_of_others,
    "relations of captions, cut off": both(relations_of_others, cut("train_caption_relations.npz")),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_folders_of_features(what, tmp_path):
    folder = write_precomp(tmp_path / "data", relations=True)
    for split in ("train", "dev", "test"):
        lines("caps", *EIGHT)(folder)
        np.save(folder / f"{split}_relations.npy", np.tile([0, 1, 2], (4, 5, 1)))
    FOLDERS[what](folder)
    told, report = everything(PrecompFolder(folder)), check_path(folder)
    assert report.ok is (not told), (told, report.problems)
    for message in told:  # the check may name the file where the reader names the split
        known = [problem for problem in report.problems if message.split(": ", 1)[1][:25] in problem]
        assert known or "features" in message, (message, report.problems)


def sentence(index, **change):
    return lambda images: images[index]["sentences"][0].update(change)


def image(index, **change):
    return lambda images: images[index].update(change)


JSON = {
    "as it is": lambda images: None,
    "a blank sentence": sentence(0, raw=" \n"),
    "words alone": lambda images: images[0].update(sentences=[{"tokens": ["a", "dog"]}]),
    "no text": sentence(2, raw=None),
    "blank sentences alone": lambda images: images[0].update(sentences=[{"raw": " "}]),
    "no sentences": image(1, sentences=[]),
    "sentences that are no list": image(1, sentences={}),
    "a split that is no text": image(1, split=3),
    "an id of another image": image(1, cocoid=100),
    "an id of an image of another split": image(1, cocoid=104),
    "a place of another image": image(1, imgid=0),
    "a cocoid that is no id": image(0, cocoid=[1]),
    "no filename": lambda images: images[0].pop("filename"),
    "half of a pair of surrogates": sentence(0, raw="a \ud83d"),
    "an image that is none": lambda images: images.append(3),
    "no image": lambda images: images.clear(),
    "an image without features": image(0, cocoid=999),
}


def write_karpathy(folder):
    images = [
        {"split": STAGES[i // 2], "filename": f"{i}.jpg", "cocoid": 100 + i, "imgid": i,
         "sentences": [{"raw": f"a dog {j}", "tokens": ["a", "dog"]} for j in range(5)]} for i in range(6)
    ]  # fmt: skip
    (folder / "features").mkdir()
    for i in range(6):
        values = np.random.default_rng(i).standard_normal((2 + i, 4)).astype(np.float32)
        np.save(folder / "features" / f"{100 + i}.npy", values)
    return images


@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("what", JSON)
def test_json_of_captions(what, with_features, tmp_path):
    images = write_karpathy(tmp_path)
    np.save(tmp_path / "all.npy", np.ones((6, 2, 4), np.float32))
    JSON[what](images)
    (tmp_path / "x.json").write_text(json.dumps({"images": images}))
    features = tmp_path / ("features" if with_features else "all.npy")
    told = everything(KarpathyJson(tmp_path / "x.json", features))
    if "features" in what and with_features:
        assert told
    report = check_path(tmp_path / "x.json", features=features if with_features else None)
    if with_features or not any("all.npy" in message for message in told):
        assert report.ok is (not told), (told, report.problems)


BAD_FEATURES = {
    "as they are": lambda folder: None,
    "one that is not there": lambda folder: (folder / "103.npy").unlink(),
    "one of another size": lambda folder: np.save(folder / "101.npy", np.ones((3, 5), np.float32)),
    "one with NaN": lambda folder: np.save(folder / "104.npy", np.full((3, 4), np.nan, np.float32)),
    "one that is cut off": cut("105.npy"),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("what", BAD_FEATURES)
def test_features_of_a_json(what, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"images": write_karpathy(tmp_path)}))
    BAD_FEATURES[what](tmp_path / "features")
    told = everything(KarpathyJson(tmp_path / "x.json", tmp_path / "features"))
    report = check_path(tmp_path / "x.json", features=tmp_path / "features")
    assert report.ok is (not told), (told, report.problems)
    assert report.ready is (not told)
    for message in told[:1]:
        assert any(message.split(": ", 1)[0] in problem for problem in report.problems), (message, report.problems)


PHOTOS = {
    "as they are": lambda folder: None,
    "no photo": lambda folder: (folder / "2.png").unlink(),
    "a text": lambda folder: (folder / "2.png").write_text("a dog"),
    "a caption too many": lines("caps", *EIGHT),
    "a blank caption": lines("caps", "a", "b", "c", " "),
    "a name twice": lines("ids", "0.png", "0.png"),
    "a name of many letters": lines("ids", "0.png", "a" * 600),
}


@pytest.mark.parametrize("what", PHOTOS)
def test_photos(what, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(6):
        values = np.random.default_rng(number).integers(0, 256, (9, 7, 3), np.uint8)
        image.fromarray(values).save(tmp_path / f"{number}.png")
    for number, split in enumerate(("train", "dev", "test")):
        (tmp_path / f"{split}_ids.txt").write_text(f"{2 * number}.png\n{2 * number + 1}.png\n")
        (tmp_path / f"{split}_caps.txt").write_text("a dog\n" * 4)
    PHOTOS[what](tmp_path)
    told, report = (
        everything(ImageFolder(tmp_path, extractor=PhotoPatches(image_size=8, patch_size=4))),
        check_path(tmp_path),
    )
    assert report.ok is (not told), (told, report.problems)
    assert report.ready is (not told)


@pytest.mark.parametrize("layout", ["bottom-up-attention.pytorch", "UNITER", "padded"])
def test_a_folder_of_npz_files(layout, tmp_path):
    report = check_path(write_npz(tmp_path / "n", layout))
    assert report.ok, report.problems
    assert any("no regions; it is read as one region of zeros" in warning for warning in report.warnings)
    (tmp_path / "n/102.npz").write_bytes(b"PK")
    assert not check_path(tmp_path / "n").ok


def test_features_in_other_layouts(tmp_path):
    for path in (write_bottom_up(tmp_path / "a.tsv"), write_vinvl(tmp_path / "v")):
        report = check_path(path)
        assert report.ok, report.problems
        assert "3 photos" in report.found
        assert report.found[-1] == f"next: itmatch data convert {path} --karpathy JSON --out FOLDER"
    (tmp_path / "a.tsv").write_text("1\t2\n")
    assert not check_path(tmp_path / "a.tsv").ok
    pytest.importorskip("h5py")
    assert check_path(write_h5(tmp_path / "a.h5", "groups")).ok
