import json
import pickle

import numpy as np
import pytest
import torch
from helpers_layouts import COUNTS, NUMBERS, photos, write_bottom_up, write_h5, write_npz

from itmatch.batch import Fragments
from itmatch.data import KarpathyJson, PrecompFolder, check_path
from itmatch.evaluation import Coco1K, Coco5K, Cxc, EccvCaption, Evaluator, SeveralProtocols
from itmatch.nn import CosineSimilarity
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


def change_sentence(**change):
    return lambda images: images[3]["sentences"][1].update(change)


BROKEN = {
    r"dataset\.json: images\[2\] has no 'split' \(str\)": drop(2, "split"),
    r"dataset\.json: images\[1\] has no 'sentences' \(list\)": drop(1, "sentences"),
    r"dataset\.json: images\[4\] has no 'filename'": drop(4, "filename"),
    r"images\[3\]\.sentences\[1\]: no text in 'raw' and no list of words in 'tokens'": change_sentence(raw=3),
    r"images\[0\]: no sentences": lambda images: images[0].update(sentences=[]),
    r"image '103' has blank captions alone": lambda images: images[3].update(sentences=[{"raw": " \u200b"}]),
    r"no list 'images'": lambda images: images.clear(),
    r"features\.npy: shape \(5, 2, 3\), expected 6 rows": lambda images: images.append(images[0]),
    r"images\[3\]: cocoid is None, expected a whole number or a string": lambda images: images[3].update(cocoid=None),
    r"images\[3\]: cocoid is 7\.5, expected": lambda images: images[3].update(cocoid=7.5),
    r"image_ids\[1\]: image id '100' is already at index 0": lambda images: images[3].update(cocoid=100),
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
    with pytest.raises(FileNotFoundError, match=r"no features of 1 of the 2 images .*: 103 \(images\[3\]\)"):
        KarpathyJson(path, folder).split("train")
    with pytest.raises(FileNotFoundError, match=r"none of 104, 4, photo_4 \(\.npy or \.npz\)"):
        KarpathyJson(path, folder).split("test")
    path.write_text('{"images": [\n}')
    with pytest.raises(ValueError, match=r"dataset\.json:2: not json"):
        KarpathyJson(path, folder).split("train")
    with pytest.raises(ValueError, match="key: 'id'"):
        KarpathyJson(path, folder, key="id")


@pytest.mark.parametrize("there", [[9], [4], [0, 4]])
def test_all_images_without_features_are_counted(tmp_path, there):
    """Whichever is missing, the first image or others: reader and check count all, and name the first ones."""
    path = annotations(tmp_path, lambda images: [image.update(split="train") for image in images])
    folder = files(tmp_path, there)
    with pytest.raises(FileNotFoundError) as caught:
        KarpathyJson(path, folder).split("train")
    assert check_path(path, features=folder).problems[0] == str(caught.value)
    asked, by = "of the 5 images that were asked for", f"by the imgid in {path}"
    leave = "missing='drop' leaves them out"
    expected = {
        9: f"any {asked}: none of 0, 100, photo_0 (.npy or .npz), as the first of them in {path} may be called",
        4: f"4 {asked}: 0 (images[0]), 1 (images[1]), 2 (images[2]), ..., {by}; {leave}",
        0: f"3 {asked}: 1 (images[1]), 2 (images[2]), 3 (images[3]), {by}; {leave}",
    }[there[0]]
    assert str(caught.value) == f"{folder}: no features of {expected}"


def test_images_without_features_may_be_left_out(tmp_path):
    path = annotations(tmp_path, lambda images: [image.update(split="train") for image in images])
    folder = files(tmp_path, [0, 3, 4])
    for path_ in folder.iterdir():
        np.save(path_, np.ones((2, 3), np.float16))
    boxes = np.arange(5 * 2 * 4, dtype=np.float32).reshape(5, 2, 4)
    np.save(tmp_path / "boxes.npy", np.tile([0.1, 0.2, 0.3, 0.4], (5, 2, 1)).astype(np.float32) + boxes[:, :, :1] / 100)
    whole = KarpathyJson(path, one_array(tmp_path), boxes=tmp_path / "boxes.npy").split("train")
    source = KarpathyJson(path, folder, missing="drop", boxes=tmp_path / "boxes.npy")
    with pytest.warns(UserWarning, match=r"2 of the 5 images have no features and are left out: 1 \(images\[1\]\), 2"):
        split = source.split("train")
    assert split.image_ids == [whole.image_ids[row] for row in (0, 3, 4)]
    kept = np.isin(whole.caption_image, (0, 3, 4))
    assert split.captions == [text for text, keep in zip(whole.captions, kept, strict=True) if keep]
    for row, before in enumerate((0, 3, 4)):
        np.testing.assert_array_equal(split.image(row).boxes, whole.image(before).boxes)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no features of any of the 5 images"):
        KarpathyJson(path, files(tmp_path / "none", [9]), missing="drop").split("train")
    with pytest.raises(ValueError, match="missing: 'skip', expected"):
        KarpathyJson(path, folder, missing="skip")


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
    with pytest.raises(ValueError, match=r"images\[3\]: its file of features is that of images\[0\], a\.npy"):
        KarpathyJson(path, files(tmp_path, ["a"])).split("train")


def test_every_split_that_is_named_has_to_be_there(tmp_path):
    source = KarpathyJson(annotations(tmp_path), one_array(tmp_path), train=["train", "restvall"])
    with pytest.raises(ValueError, match=r"no image of split restvall; splits there: restval, test, train, val"):
        source.split("train")


def test_blank_sentences_are_left_out_or_kept(tmp_path):
    path = annotations(tmp_path, change_sentence(raw=" \n\u200b"))
    with pytest.warns(
        UserWarning, match=r"captions: blank and left out: 1 of 3 captions, the first is caption 2 \(image '103'\)"
    ):
        dataset = KarpathyJson(path, one_array(tmp_path)).split("train")
    assert dataset.captions == ["sentence 0 of 0", "sentence 0 of 3"]
    assert dataset.caption_image.tolist() == [0, 1]
    dataset = KarpathyJson(path, one_array(tmp_path), blank_captions="keep").split("train")
    assert dataset.caption_image.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match=r"captions\[2\]: empty caption"):
        KarpathyJson(path, one_array(tmp_path), blank_captions="refuse").split("train")


def test_a_sentence_may_have_words_alone(tmp_path):
    def words(images):
        for image in images:
            image["sentences"] = [{"tokens": ["a", "dog", str(image["imgid"])]}]

    assert KarpathyJson(annotations(tmp_path, words), one_array(tmp_path)).split("test").captions == ["a dog 4"]


def test_the_first_captions_of_an_image_alone(tmp_path):
    texts = ["a", " ", "b", "c"]

    def many(images):
        images[3]["sentences"] = [{"raw": text} for text in texts]

    path, features = annotations(tmp_path, many), one_array(tmp_path)
    with pytest.warns(UserWarning, match="left out: 1 of 4 captions"):
        dataset = KarpathyJson(path, features, captions_per_image=2).split("train")
    assert dataset.captions == ["sentence 0 of 0", "a", "b"]  # a blank one does not count
    dataset = KarpathyJson(path, features, captions_per_image=2, blank_captions="keep").split("train")
    assert dataset.captions == ["sentence 0 of 0", "a", ""]
    with pytest.raises(ValueError, match="captions_per_image: 0, expected a whole number, 1 or more"):
        KarpathyJson(path, features, captions_per_image=0)


def coco_files(folder, change=lambda content: None):
    """COCO's own two files: captions in no order, five images of both splits."""
    paths = []
    for split, ids in (("train2014", [9, 25]), ("val2014", [42, 7, 8])):
        content = {
            "info": {},
            "images": [{"id": i, "file_name": f"COCO_{split}_{i:012}.jpg"} for i in ids],
            "annotations": [
                {"image_id": i, "id": 10 * i + j, "caption": f" caption {j}\nof {i}"}
                for j in range(2)
                for i in ids[::-1]
            ],
        }
        change(content)
        paths.append(str(folder / f"captions_{split}.json"))
        (folder / f"captions_{split}.json").write_text(json.dumps(content))
    return paths


def unpaired(content):
    """The second image loses its captions."""
    second = content["images"][1]["id"]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != second]


def test_coco_s_own_captions(tmp_path):
    source = KarpathyJson(coco_files(tmp_path), one_array(tmp_path), train="train2014", val="val2014")
    dataset = build(source.spec, KarpathyJson).split("val")
    assert dataset.image_ids == ["42", "7", "8"]
    assert dataset.captions == [f"caption {j} of {i}" for i in (42, 7, 8) for j in range(2)]
    assert [dataset.image(i).features[0, 0].item() for i in range(3)] == [2, 3, 4]
    with pytest.raises(ValueError, match="no image of split test; splits there: train2014, val2014"):
        source.split("test")
    (tmp_path / "b").mkdir()
    folder = files(tmp_path / "b", [f"COCO_train2014_{i:012}" for i in (9, 25)])
    assert KarpathyJson(coco_files(tmp_path)[0], folder, train="train2014").split("train").num_captions == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(annotations={}), "no list 'annotations'"),
        (lambda content: content["images"][1].update(id="x"), r"images\[1\] has no 'id' \(int\)"),
        (lambda content: content["images"][1].update(id=9), r"images\[1\] has the id of .*images\[0\]: 9"),
        (lambda content: content["annotations"][2].pop("caption"), r"annotations\[2\] has no 'caption' \(str\)"),
        (
            lambda content: content["annotations"][2].update(image_id=3),
            r"annotations\[2\] has image_id 3, which is not",
        ),
        (unpaired, r"captions_train2014\.json: images\[1\]: no sentences"),
    ],
)
def test_broken_captions_of_coco(change, message, tmp_path):
    paths = coco_files(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        KarpathyJson(paths[:1], one_array(tmp_path), train="train2014").split("train")


PROTOCOLS = Coco1K(num_images=10), Coco5K(num_images=10)


def recalls(dataset, protocols=PROTOCOLS):
    """Figures of some protocols of COCO, of a model whose text encoder tells captions apart by their number."""
    evaluator = Evaluator(CosineSimilarity())
    images = torch.stack([dataset.image(i).features for i in range(dataset.num_images)])
    torch.manual_seed(0)
    codes = {text: torch.randn(1, images.shape[-1]) for text in sorted(dataset.captions)}
    texts = torch.stack([codes[text] for text in dataset.captions]) / 2 + images[dataset.caption_image].mean(1, True)
    figures = {}
    for protocol in protocols:
        for add, part in ((evaluator.add_images, images), (evaluator.add_captions, texts)):
            index = [torch.arange(len(part))]
            index += [] if part is images else [torch.from_numpy(dataset.caption_image)]
            add(Fragments(part, torch.ones(part.shape[:2], dtype=torch.bool)), *index)
        figures[type(protocol).__name__] = evaluator.compute(dataset, protocol)
    return figures


def both_routes(tmp_path):
    """A json of COCO's kind, whose images have 5 to 7 captions, and the precomputed folder of its test split."""
    numbers, images = [5, 6, 7, 5, 5, 6, 5, 5, 7, 5], []
    for i, number in enumerate([5, 6, *numbers]):
        sentences = [{"raw": f"caption {j} of {i}", "tokens": ["a"]} for j in range(number)]
        split = "train" if i < 2 else "test"
        images.append({"split": split, "filename": f"{i}.jpg", "cocoid": 500 - i, "sentences": sentences})
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    features = np.random.default_rng(0).standard_normal((12, 3, 4)).astype(np.float32)
    np.save(tmp_path / "all.npy", features)
    np.save(tmp_path / "testall_ims.npy", features[2:].repeat(5, 0))
    lines = [f"caption {j} of {i}\n" for i in range(2, 12) for j in range(5)]
    (tmp_path / "testall_caps.txt").write_text("".join(lines))

    direct = KarpathyJson(tmp_path / "dataset_coco.json", tmp_path / "all.npy", captions_per_image=5).split("test")
    return direct, PrecompFolder(tmp_path, test="testall").split("test")


def test_five_captions_give_the_recalls_of_the_precomputed_folder(tmp_path):
    """COCO has images with 6 and 7 captions; the precomputed folders keep the first five of each."""
    direct, precomputed = both_routes(tmp_path)
    assert recalls(direct) == recalls(precomputed)
    assert 0 < recalls(direct)["Coco5K"]["t2i_r1"] < 100
    whole = KarpathyJson(tmp_path / "dataset_coco.json", tmp_path / "all.npy").split("test")
    assert (whole.num_captions, direct.num_captions) == (56, 50)
    with pytest.raises(ValueError, match="10 images with 5 to 7 captions, expected 10 with 5"):
        recalls(whole)


def test_eccv_and_cxc_give_the_figures_of_the_precomputed_folder(tmp_path):
    """The annotations speak of COCO's ids: of images, which the json has and the folder has not, and of captions."""
    direct, precomputed = both_routes(tmp_path)
    images = [int(name) for name in direct.image_ids]
    rng = np.random.default_rng(3)
    captions = rng.permutation(9000)[:50]
    np.save(tmp_path / "coco_test_ids.npy", captions)
    own = {str(caption): [images[place // 5]] for place, caption in enumerate(captions)}
    of_images = {images[i]: [*captions[5 * i : 5 * i + 5].tolist(), int(captions[rng.integers(50)])] for i in (0, 3, 7)}
    of_captions = {int(captions[t]): [images[t // 5], images[(t + 9) // 5 % 10]] for t in (2, 20, 34, 49)}
    for name, content in (
        ("original_caption_to_image", own),
        *((f"{kind}_image_to_caption", of_images) for kind in ("eccv", "cxc")),
        *((f"{kind}_caption_to_image", of_captions) for kind in ("eccv", "cxc")),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    protocols = EccvCaption(tmp_path), Cxc(tmp_path), SeveralProtocols([EccvCaption(tmp_path), Coco5K(num_images=10)])
    found = recalls(direct, protocols)
    assert found == recalls(precomputed, protocols)
    assert 0 < found["EccvCaption"]["eccv_t2i_map_at_r"] < 100
    assert 0 < found["Cxc"]["cxc_i2t_r1"] < 100

    content = json.loads((tmp_path / "dataset_coco.json").read_text())
    content["images"][4:6] = content["images"][5:3:-1]  # as a file of another order has them
    (tmp_path / "dataset_coco.json").write_text(json.dumps(content))
    turned = KarpathyJson(tmp_path / "dataset_coco.json", tmp_path / "all.npy", captions_per_image=5).split("test")
    with pytest.raises(ValueError, match=f"COCO's image {images[3]} is number 3 there and number 2 of the split"):
        recalls(turned, protocols[:1])


def photos_of_other_layouts(folder):
    """The json of the photos of ``helpers_layouts``, all in one split."""
    images = [
        {"split": "test", "filename": f"COCO_{name}.jpg", "cocoid": int(name), "sentences": [{"raw": f"of {name}"}]}
        for name in COUNTS
    ]
    (folder / "dataset.json").write_text(json.dumps({"images": images}))
    return folder / "dataset.json"


@pytest.mark.filterwarnings("ignore:.*images without regions")
@pytest.mark.parametrize(
    "layout", ["bottom-up-attention.pytorch", "a column per region", "UNITER", "padded", "h5 groups", "h5 names"]
)
def test_npz_files_and_hdf5(tmp_path, layout):
    """Any number of regions; none is one region of zeros."""
    if layout.startswith("h5"):
        pytest.importorskip("h5py")
        path = write_h5(tmp_path / "a.h5", layout.removeprefix("h5 "))
    else:
        path = write_npz(tmp_path / "n", layout)
    dataset = KarpathyJson(photos_of_other_layouts(tmp_path), path).split("test")
    again = pickle.loads(pickle.dumps(dataset))
    for index, (features, _, _) in enumerate(photos().values()):
        expected = features if len(features) else np.zeros((1, NUMBERS))
        np.testing.assert_array_equal(dataset.image(index).features, expected)
        np.testing.assert_array_equal(again.image(index).features, expected)


def test_layouts_that_are_not_read_at_random_are_named_with_the_command(tmp_path):
    source = KarpathyJson(photos_of_other_layouts(tmp_path), write_bottom_up(tmp_path / "a.tsv"))
    with pytest.raises(
        ValueError, match=r"a\.tsv: `itmatch data convert \S+a\.tsv --karpathy JSON --out FOLDER` makes a folder"
    ):
        source.split("test")
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.pt: a file of torch; write one \.npy"):
        KarpathyJson(tmp_path / "dataset.json", tmp_path / "a.pt").split("test")


def test_grids_and_vectors(tmp_path):
    np.save(tmp_path / "grid.npy", np.arange(5 * 12, dtype=np.float64).reshape(5, 3, 2, 2))
    np.save(tmp_path / "vectors.npy", np.arange(10, dtype=np.float16).reshape(5, 2))
    grid = KarpathyJson(annotations(tmp_path), tmp_path / "grid.npy").split("val").image(0)
    assert grid.features.tolist() == [[24 + region + 4 * number for number in range(3)] for region in range(4)]
    vector = KarpathyJson(annotations(tmp_path), tmp_path / "vectors.npy").split("val").image(0)
    assert vector.features.tolist() == [[4, 5]]
