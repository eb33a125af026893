import json

import numpy as np
import pytest

from itmatch.data import KarpathyJson
from itmatch.spec import build

SPLITS = ["train", "restval", "val", "train", "test"]


def annotations(folder, change=None):
    images = [
        {
            "split": split,
            "filename": f"photo_{i}.jpg",
            "imgid": i,
            "cocoid": 100 + i,
            "sentences": [{"raw": f" sentence {j}\n of {i} ", "tokens": []} for j in range(1 + i % 2)],
        }
        for i, split in enumerate(SPLITS)
    ]
    if change:
        change(images)
    path = folder / "dataset.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}), "utf-8")
    return path


def one_array(folder):
    np.save(folder / "features.npy", np.arange(5, dtype=np.float32)[:, None, None].repeat(2, 1).repeat(3, 2))
    return folder / "features.npy"


def files(folder, names):
    (folder / "features").mkdir()
    for i, name in enumerate(names):
        np.save(folder / "features" / f"{name}.npy", np.full((2 + i, 3), i, np.float16))
    return folder / "features"


def test_one_array(tmp_path):
    source = KarpathyJson(annotations(tmp_path), one_array(tmp_path))
    dataset = source.split("train")
    assert dataset.num_images == 2
    assert dataset.captions == ["sentence 0 of 0", "sentence 0 of 3", "sentence 1 of 3"]
    assert dataset.caption_image.tolist() == [0, 1, 1]
    assert [dataset.image(i).features[0, 0].item() for i in range(2)] == [0, 3]
    assert dataset.image_ids == ["100", "103"]
    assert source.split("val").image(0).features[0, 0] == 2


def test_several_splits_and_spec(tmp_path):
    source = KarpathyJson(annotations(tmp_path), one_array(tmp_path), train=["train", "restval"])
    assert build(source.spec, KarpathyJson).split("train").image_ids == ["100", "101", "103"]


@pytest.mark.parametrize("key", ["cocoid", "imgid", "filename"])
@pytest.mark.parametrize("auto", [True, False])
def test_folder(tmp_path, key, auto):
    names = {"cocoid": range(100, 105), "imgid": range(5), "filename": [f"photo_{i}" for i in range(5)]}[key]
    source = KarpathyJson(annotations(tmp_path), files(tmp_path, names), key="auto" if auto else key)
    item = source.split("train").image(1)
    assert item.features.shape == (5, 3)
    assert item.features[0, 0] == 3


def test_files_are_opened_when_read(tmp_path):
    folder = files(tmp_path, range(5))
    (folder / "3.npy").write_bytes(b"broken")
    dataset = KarpathyJson(annotations(tmp_path), folder).split("train")
    dataset.image(0)
    with pytest.raises(ValueError, match=r"3\.npy: not a \.npy file"):
        dataset.image(1)


def test_more_columns(tmp_path):
    np.save(tmp_path / "boxes.npy", np.tile(np.array([0, 0, 0.5, 0.5], np.float32), (5, 2, 1)))
    np.save(tmp_path / "labels.npy", np.arange(5)[:, None].repeat(2, 1))
    source = KarpathyJson(
        annotations(tmp_path), one_array(tmp_path), boxes=tmp_path / "boxes.npy", labels=tmp_path / "labels.npy"
    )
    item = source.split("test").image(0)
    assert item.labels.tolist() == [4, 4]
    assert item.boxes.shape == (2, 4)
    np.save(tmp_path / "labels.npy", np.zeros((4, 2), int))
    with pytest.raises(ValueError, match=r"labels\.npy: shape \(4, 2\), expected 5 rows"):
        source.split("test")


def drop(index, key):
    return lambda images: images[index].pop(key)


BROKEN = {
    r"dataset\.json: images\[2\] has no 'split' \(str\)": drop(2, "split"),
    r"dataset\.json: images\[1\] has no 'sentences' \(list\)": drop(1, "sentences"),
    r"dataset\.json: images\[4\] has no 'filename'": drop(4, "filename"),
    r"images\[3\]\.sentences\[1\]: no text in 'raw'": lambda images: images[3]["sentences"][1].update(raw="  "),
    r"images\[0\]: no sentences": lambda images: images[0].update(sentences=[]),
    r"no list 'images'": lambda images: images.clear(),
    r"features\.npy: shape \(5, 2, 3\), expected 6 rows": lambda images: images.append(images[0]),
    r"images\[3\]: cocoid is None, expected a whole number or a string": lambda images: images[3].update(cocoid=None),
    r"images\[3\]: cocoid is 7\.5, expected": lambda images: images[3].update(cocoid=7.5),
    r"image_ids:2: image id '100' is already on line 1": lambda images: images[3].update(cocoid=100),
    r"no image of split train; splits there: other": lambda images: [image.update(split="other") for image in images],
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_annotations(tmp_path, message):
    with pytest.raises(ValueError, match=message) as caught:
        KarpathyJson(annotations(tmp_path, BROKEN[message]), one_array(tmp_path)).split("train")
    assert "\n" not in str(caught.value)


def test_missing_things(tmp_path):
    path = annotations(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no\.json: no such file"):
        KarpathyJson(tmp_path / "no.json", one_array(tmp_path)).split("train")
    with pytest.raises(FileNotFoundError, match=r"no\.npy: no such file"):
        KarpathyJson(path, tmp_path / "no.npy").split("train")
    folder = files(tmp_path, [100, 101])
    with pytest.raises(FileNotFoundError, match=r"103\.npy: no such file, for images\[3\]"):
        KarpathyJson(path, folder).split("train")
    with pytest.raises(FileNotFoundError, match=r"none of 104\.npy, 4\.npy, photo_4\.npy"):
        KarpathyJson(path, folder).split("test")
    path.write_text('{"images": [\n}')
    with pytest.raises(ValueError, match=r"dataset\.json:2: not json"):
        KarpathyJson(path, folder).split("train")
    with pytest.raises(ValueError, match="key: 'id'"):
        KarpathyJson(path, folder, key="id")


def test_named_key_must_be_there(tmp_path):
    path = annotations(tmp_path, drop(0, "cocoid"))
    with pytest.raises(ValueError, match=r"images\[0\] has no 'cocoid'; keys there: filename"):
        KarpathyJson(path, files(tmp_path, range(5)), key="cocoid").split("train")


def test_two_keys_that_fit_are_no_matter_of_chance(tmp_path):
    """Files 0.npy ... named by imgid, and cocoids that are one more: each image would get the next one's features."""

    def shift(images):
        for image in images:
            image["cocoid"] = image["imgid"] + 1

    source = KarpathyJson(annotations(tmp_path, shift), files(tmp_path, range(5)), test="restval")
    with pytest.raises(ValueError, match=r"features: its files may be named by cocoid or by imgid of .*; say which"):
        source.split("train")
    (tmp_path / "features" / "4.npy").unlink()  # cocoid 4 is the last training image
    assert [source.split("train").image(i).features[0, 0] for i in range(2)] == [0, 3]
    assert KarpathyJson(source.annotations, source.features, key="cocoid").split("val").image(0).features[0, 0] == 3


def test_images_that_share_a_file_of_features(tmp_path):
    path = annotations(tmp_path, lambda images: [image.update(filename=f"{i}/a.jpg") for i, image in enumerate(images)])
    with pytest.raises(ValueError, match=r"images\[3\] and images\[0\] have one file of features, a\.npy"):
        KarpathyJson(path, files(tmp_path, ["a"])).split("train")


def test_every_split_that_is_named_has_to_be_there(tmp_path):
    source = KarpathyJson(annotations(tmp_path), one_array(tmp_path), train=["train", "restvall"])
    with pytest.raises(ValueError, match=r"no image of split restvall; splits there: restval, test, train, val"):
        source.split("train")
