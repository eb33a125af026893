import pickle

import numpy as np
import pytest
import torch

from itmatch.data import CaptionRelations, PrecompFolder
from itmatch.spec import build

IMAGES, CAPTIONS, REGIONS = 4, 3, 2


@pytest.fixture
def folder(tmp_path):
    """A complete split 'train' with three captions an image; the first number of a region tells its image."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((IMAGES, REGIONS, 5)).astype(np.float16)
    features[:, :, 0] = np.arange(IMAGES)[:, None]
    boxes = np.tile(np.array([0.1, 0.2, 0.5, 0.6], np.float32), (IMAGES, REGIONS, 1))
    relations = np.tile(np.array([[0, 3, 1], [-1, -1, -1]], np.int16), (IMAGES, 1, 1))
    for name, array in {
        "ims": features,
        "boxes": boxes,
        "labels": np.ones((IMAGES, REGIONS), np.int16),
        "vg_labels": np.full((IMAGES, REGIONS), 2, np.int16),
        "relations": relations,
        "relation_scores": np.full((IMAGES, 2), 0.5, np.float16),
        "lengths": np.full(IMAGES, REGIONS),
    }.items():
        np.save(tmp_path / f"train_{name}.npy", array)
    write(tmp_path / "train_caps.txt", [f"caption {i} of {j}" for j in range(IMAGES) for i in range(CAPTIONS)])
    write(tmp_path / "train_ids.txt", [f"{i}.jpg" for i in range(IMAGES)])
    return tmp_path


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def edit(folder, name, function):
    path = folder / f"train_{name}.npy"
    np.save(path, function(np.load(path)))


def repeat_rows(folder, *names):
    for name in names:
        edit(folder, name, lambda array: array.repeat(CAPTIONS, 0))


def test_everything_is_read(folder):
    dataset = PrecompFolder(folder).split("train")
    assert (dataset.num_images, dataset.num_captions, dataset.feature_dim) == (IMAGES, IMAGES * CAPTIONS, 5)
    assert dataset.caption_image.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert dataset.image_ids[2] == "2.jpg"
    item = dataset.image(3)
    assert item.features[:, 0].tolist() == [3, 3]
    assert item.labels.tolist() == [1, 1]
    assert item.relations.tolist() == [[0, 3, 1]]
    assert item.relation_scores.tolist() == [0.5]
    assert item.boxes[0].tolist() == pytest.approx([0.1, 0.2, 0.5, 0.6])


def test_only_features_and_captions_are_needed(folder):
    for path in folder.iterdir():
        if not path.name.endswith(("_ims.npy", "_caps.txt")):
            path.unlink()
    item = PrecompFolder(folder).split("train").image(0)
    assert item.boxes is item.labels is item.relations is None


def test_choice_of_labels_and_relations(folder):
    assert PrecompFolder(folder, labels="vg_labels").split("train").image(0).labels.tolist() == [2, 2]
    item = PrecompFolder(folder, labels=None, relations=None).split("train").image(0)
    assert item.labels is item.relations is item.relation_scores is None
    with pytest.raises(FileNotFoundError, match=r"train_coco_labels\.npy: no such file"):
        PrecompFolder(folder, labels="coco_labels").split("train")


def test_stages_name_splits(folder):
    dataset = PrecompFolder(folder, train="dev", test="train").split("test")
    assert dataset.num_images == IMAGES


@pytest.mark.parametrize("given", [None, CAPTIONS])
@pytest.mark.parametrize("ids", ["image", "caption", "repeated", "none"])
def test_an_image_stored_once_a_caption_is_kept_once(folder, ids, given):
    edit(folder, "labels", lambda x: x * np.arange(IMAGES, dtype=np.int16)[:, None])
    repeat_rows(folder, "ims", "boxes", "labels")  # the other files stay with one row per image
    if ids == "none":
        (folder / "train_ids.txt").unlink()
    elif ids == "caption":
        write(folder / "train_ids.txt", range(IMAGES * CAPTIONS))
    elif ids == "repeated":
        write(folder / "train_ids.txt", [i for i in range(IMAGES) for _ in range(CAPTIONS)])
    dataset = PrecompFolder(folder, captions_per_image=given).split("train")
    assert dataset.num_images == IMAGES
    assert dataset.caption_image.tolist() == [i for i in range(IMAGES) for _ in range(CAPTIONS)]
    assert [int(dataset.image(i).features[0, 0]) for i in range(IMAGES)] == list(range(IMAGES))
    assert [int(dataset.image(i).labels[1]) for i in range(IMAGES)] == list(range(IMAGES))
    expected = {"image": [f"{i}.jpg" for i in range(IMAGES)]}.get(ids, [str(i) for i in range(IMAGES)])
    assert dataset.image_ids == expected


def test_repeated_rows_with_two_equal_images_in_a_row(folder):
    """Rows alone say that they are one image; another file may contradict, and the number may be stated."""
    given = np.load(folder / "train_ims.npy")
    for equal in ([0, 0, 2, 3], [0, 1, 1, 3]):
        np.save(folder / "train_ims.npy", given[equal].repeat(CAPTIONS, 0))
        assert PrecompFolder(folder).split("train").num_images == IMAGES
    (folder / "train_ids.txt").unlink()
    assert PrecompFolder(folder, captions_per_image=CAPTIONS).split("train").num_images == IMAGES
    with pytest.raises(ValueError, match=r"expected 3 rows \(images\) or 12 .* captions_per_image says how many"):
        PrecompFolder(folder).split("train")


def test_repeated_ids_allow_any_number_of_captions(folder):
    for name in ("boxes", "labels", "relations", "relation_scores", "lengths"):
        (folder / f"train_{name}.npy").unlink()
    owners = [0, 0, 1, 2, 2, 2, 3]
    edit(folder, "ims", lambda x: x[owners])
    write(folder / "train_ids.txt", owners)
    write(folder / "train_caps.txt", [f"of {i}" for i in owners])
    dataset = PrecompFolder(folder).split("train")
    assert dataset.caption_image.tolist() == owners
    assert int(dataset.image(2).features[0, 0]) == 2


def test_one_caption_an_image(folder):
    write(folder / "train_caps.txt", [f"caption of {j}" for j in range(IMAGES)])
    assert PrecompFolder(folder).split("train").caption_image.tolist() == list(range(IMAGES))


def test_ids_of_captions_are_not_ids_of_images(folder):
    write(folder / "train_ids.txt", range(100, 100 + IMAGES * CAPTIONS))
    assert PrecompFolder(folder).split("train").image_ids == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("box_name", "size_name"), [("boxes", "sizes"), ("ims_bbx", "ims_size")])
def test_boxes_in_pixels(folder, box_name, size_name):
    (folder / "train_boxes.npy").unlink()
    pixels = np.tile(np.array([10, 40, 100, 200], np.float32), (IMAGES, REGIONS, 1))
    np.save(folder / f"train_{box_name}.npy", pixels)
    with pytest.raises(ValueError, match=r"boxes in pixels, which needs .*train_sizes\.npy"):
        PrecompFolder(folder).split("train")
    np.save(folder / f"train_{size_name}.npy", np.tile([200, 400], (IMAGES, 1)))
    assert PrecompFolder(folder).split("train").image(1).boxes[1].tolist() == pytest.approx([0.05, 0.1, 0.5, 0.5])
    np.save(folder / f"train_{size_name}.npy", np.tile([200, 0], (IMAGES, 1)))
    with pytest.raises(ValueError, match=rf"train_{size_name}\.npy: image 0 has size \[200, 0\]"):
        PrecompFolder(folder).split("train")


def test_spec_rebuilds(folder):
    source = PrecompFolder(folder, labels="vg_labels")
    assert build(source.spec, PrecompFolder).split("train").image(0).labels.tolist() == [2, 2]


def test_lines_end_at_newlines_alone_and_blanks_are_stripped(folder):
    lines = [f" caption {i}\u2028\x0b of it " for i in range(IMAGES * CAPTIONS)]
    (folder / "train_caps.txt").write_bytes("\r\n".join(lines).encode())
    dataset = PrecompFolder(folder).split("train")
    assert dataset.num_captions == IMAGES * CAPTIONS
    assert dataset.captions[0] == "caption 0\u2028\x0b of it"


def test_relations_of_captions(folder):
    texts = [f"caption {i} of {j}" for j in range(IMAGES) for i in range(CAPTIONS)]
    table = [[((0, 7), (10, 12), (13, 14))] if i % 2 else [] for i in range(len(texts))]
    assert PrecompFolder(folder).split("train").caption(1).relations is None
    for name in ("caption_relations", "spacy"):
        CaptionRelations.pack(table).save(folder / f"train_{name}.npz", texts)
        dataset = PrecompFolder(folder, caption_relations=name).split("train")
        assert dataset.caption(0).relations.shape == (0, 3, 2)
        assert dataset.caption(5).relations.tolist() == [[[0, 7], [10, 12], [13, 14]]]
    assert PrecompFolder(folder, caption_relations=None).split("train").caption(1).relations is None
    with pytest.raises(FileNotFoundError, match=r"train_parsed\.npz: no such file"):
        PrecompFolder(folder, caption_relations="parsed").split("train")
    write(folder / "train_caps.txt", [f" {text} " for text in texts])  # blanks at the ends do not count
    assert len(PrecompFolder(folder).split("train").caption(5).relations) == 1
    write(folder / "train_caps.txt", [*texts[:-1], "caption 2 of 4"])
    with pytest.raises(ValueError, match=r"train_caption_relations\.npz: made for other captions"):
        PrecompFolder(folder).split("train")
    write(folder / "train_caps.txt", texts[:8])
    with pytest.raises(ValueError, match=r"relations\.npz: relations of 12 captions, expected 8"):
        PrecompFolder(folder).split("train")


def captions(*lines):
    return lambda folder: write(folder / "train_caps.txt", lines)


def ids(*lines):
    return lambda folder: write(folder / "train_ids.txt", lines)


def remove(name):
    return lambda folder: (folder / name).unlink()


def set_array(name, array):
    return lambda folder: np.save(folder / f"train_{name}.npy", array)


def cut(folder):
    path = folder / "train_ims.npy"
    path.write_bytes(path.read_bytes()[:-1])


TWELVE = [f"caption {i}" for i in range(12)]
BROKEN = {
    r"train_ims\.npy: no such file; splits in this folder: train$": remove("train_ims.npy"),
    r"train_ims\.npy: truncated": cut,
    r"train_ims\.npy: holds pickled": lambda f: np.save(
        f / "train_ims.npy", np.array([None], dtype=object), allow_pickle=True
    ),
    r"train_ims\.npy: float32 of shape \(4,\), expected float16": set_array("ims", np.zeros(4, np.float32)),
    r"train_ims\.npy: dtype int64, expected float16 or float32 or": set_array("ims", np.zeros((4, 2, 5), np.int64)),
    r"train_caps\.txt: 11 captions for 4 rows of _ims\.npy, expected a multiple of 4": captions(*TWELVE[:11]),
    r"0 captions in _caps\.txt": captions(),
    r"train_caps\.txt: 2 captions for 4 rows": captions("a", "b"),
    r"train_caps\.txt:2: not UTF-8 \(byte 0xff\)": lambda f: (f / "train_caps.txt").write_bytes(b"a\n\xff\n"),
    r"train_ids\.txt: 3 ids, expected 4 \(one an image\) or 12 \(one a caption\)": ids("a", "b", "c"),
    r"train_ids\.txt:4: image id 'a' is already on line 1": ids("a", "b", "c", "a"),
    r"train_ids\.txt:2: empty image id": ids("a", "", "b", "c"),
    r"train_ids\.txt:2: id '1', expected '0' as for": ids(*(i % 4 for i in range(12))),
    r"train_boxes\.npy: shape \(3, 2, 4\), expected 4 rows": set_array("boxes", np.zeros((3, 2, 4), np.float32)),
    r"boxes: image 0 region 0 has box \[0\.0, 0\.0, 1\.5": set_array(
        "boxes", np.tile(np.array([0, 0, 1.5, 1], np.float32), (4, 2, 1))
    ),
    r"train_boxes\.npy: dtype bool, expected float or int": set_array("boxes", np.zeros((4, 2, 4), bool)),
    r"labels: float32": set_array("labels", np.zeros((4, 2), np.float32)),
    r"relations: image 0 relation 0 is \[0, 0, 2\]": set_array("relations", np.tile([[0, 0, 2]], (4, 1, 1))),
    r"relation_scores: float32 of shape \(4, 9\)": set_array("relation_scores", np.zeros((4, 9), np.float32)),
    r"lengths: image 0 has 3 regions": set_array("lengths", np.full(4, 3)),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_folder(folder, message):
    BROKEN[message](folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        PrecompFolder(folder).split("train")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        PrecompFolder(tmp_path / "nowhere").split("train")


def test_captions_per_image_must_agree(folder):
    with pytest.raises(ValueError, match=r"12 captions for 4 rows of _ims\.npy, expected 5 for every image"):
        PrecompFolder(folder, captions_per_image=5).split("train")
    with pytest.raises(ValueError, match="captions_per_image: 0"):
        PrecompFolder(folder, captions_per_image=0).split("train")
    repeat_rows(folder, "ims")
    with pytest.raises(ValueError, match=r"rows 2 and 3 differ, but .* captions_per_image=4"):
        PrecompFolder(folder, captions_per_image=4).split("train")
    with pytest.raises(ValueError, match="12 rows, expected a multiple of captions_per_image=5"):
        PrecompFolder(folder, captions_per_image=5).split("train")


COLUMNS = ("ims", "boxes", "labels", "relations", "relation_scores", "lengths")


@pytest.mark.parametrize("repeats", [1, 3])
def test_columns_are_pickled_by_the_names_of_their_files(folder, repeats):
    images = 600
    for name in COLUMNS:
        edit(
            folder,
            name,
            lambda array: np.repeat(np.tile(array, (images // IMAGES, *[1] * (array.ndim - 1))), repeats, 0),
        )
    edit(folder, "ims", lambda array: array + np.repeat(np.arange(images), repeats)[:, None, None].astype(np.float16))
    write(folder / "train_caps.txt", ["a dog"] * images * repeats)
    write(folder / "train_ids.txt", [str(i // repeats) for i in range(images * repeats)])
    dataset = PrecompFolder(folder).split("train")
    data = pickle.dumps(dataset)
    texts = pickle.dumps([dataset.captions, dataset.image_ids, dataset.caption_image])
    rows = pickle.dumps(np.arange(images)) if repeats > 1 else b""
    assert len(data) - len(texts) - len(rows) < 3000
    assert (folder / "train_boxes.npy").stat().st_size > 3000
    again = pickle.loads(data)
    for index in (0, 7, images - 1):
        before, after = vars(dataset.image(index)), vars(again.image(index))
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items() if name != "index")


def test_blank_lines_of_captions(folder):
    """Lines count with the blank one, so the other captions stay with their images; relations stay with captions."""
    texts = [*TWELVE[:4], " \r", *TWELVE[5:]]
    write(folder / "train_caps.txt", [*texts, "", "\r", ""])  # empty lines at the end are none
    stripped = [text.strip() for text in texts]
    table = [[] if not text else [((0, 1), (-1, -1), (0, 1 + number % 2))] for number, text in enumerate(stripped)]
    CaptionRelations.pack(table).save(folder / "train_caption_relations.npz", stripped)
    with pytest.warns(
        UserWarning,
        match=r"train_caps\.txt:5: blank and left out: 1 of 12 captions, the first is on this line \(image '1",
    ):
        dataset = PrecompFolder(folder).split("train")
    assert dataset.caption_image.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert dataset.captions == stripped[:4] + stripped[5:]
    assert [dataset.caption(i).relations[0, 2, 1].item() for i in range(3, 6)] == [2, 2, 1]
    kept = PrecompFolder(folder, blank_captions="keep").split("train")
    assert kept.captions == stripped
    with pytest.raises(ValueError, match=r"train_caps\.txt:5: empty caption"):
        PrecompFolder(folder, blank_captions="refuse").split("train")
    write(folder / "train_caps.txt", [*TWELVE[:3], " ", " ", " ", *TWELVE[6:]])
    (folder / "train_caption_relations.npz").unlink()
    with pytest.raises(ValueError, match=r"image '1\.jpg' has blank captions alone; blank_captions: keep takes them"):
        PrecompFolder(folder).split("train")


def sizes_of(width, height, names=("image_w", "image_h")):
    return [dict(zip(names, (width, height), strict=True))] * IMAGES


@pytest.mark.parametrize("kind", ["numbers", "dicts", "dicts with the names changed over", "records", "height first"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_sizes_of_every_kind(folder, kind, dtype):
    """GSMN's are pickled dicts, whose image_h holds the width."""
    (folder / "train_boxes.npy").unlink()
    pixels = np.tile(np.array([10, 40, 100, 300], dtype), (IMAGES, REGIONS, 1))
    np.save(folder / "train_ims_bbx.npy", pixels)
    sizes = {
        "numbers": np.tile([200, 400], (IMAGES, 1)),
        "dicts": np.array(sizes_of(200, 400)),
        "dicts with the names changed over": np.array(sizes_of(400, 200)),
        "records": np.array([(200, 400)] * IMAGES, [("width", "i4"), ("height", "i4")]),
        "height first": np.tile([400, 200], (IMAGES, 1)),
    }[kind]
    np.save(folder / "train_ims_size.npy", sizes, allow_pickle=True)
    dataset = PrecompFolder(folder).split("train")
    assert dataset.image(1).boxes[1].tolist() == pytest.approx([0.05, 0.1, 0.5, 0.75])


def test_without_boxes_no_size_is_opened(folder):
    edit(folder, "boxes", lambda x: x * 100)
    (folder / "train_sizes.npy").write_text("no array at all")
    with pytest.raises(ValueError, match=r"train_sizes\.npy: not a \.npy file"):
        PrecompFolder(folder).split("train")
    assert PrecompFolder(folder, boxes=None).split("train").image(0).boxes is None


@pytest.mark.parametrize("content", [["a", "b"], [{"image_w": 3}] * 4, {"image_w": 3}, [{"image_w": 0, "image_h": 4}]])
def test_sizes_that_are_none(folder, content):
    edit(folder, "boxes", lambda x: x * 100)
    np.save(folder / "train_sizes.npy", np.array(content, object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"train_sizes\.npy: .* expected"):
        PrecompFolder(folder).split("train")


def test_images_without_regions_get_one_of_zeros(folder):
    edit(folder, "lengths", lambda x: x * np.array([1, 0, 1, 0]))
    edit(folder, "boxes", lambda x: np.where(np.array([1, 0, 1, 0])[:, None, None], x, np.nan))
    edit(folder, "relations", lambda x: np.where(np.array([1, 0, 1, 0])[:, None, None], x, -1))
    with pytest.warns(UserWarning, match="train: 2 images without regions get one of zeros"):
        dataset = PrecompFolder(folder).split("train")
    item = dataset.image(1)
    assert (item.features.shape, item.features.abs().sum()) == ((1, 5), 0)
    assert (item.boxes.tolist(), item.labels.tolist(), len(item.relations)) == ([[0] * 4], [-1], 0)
    assert len(dataset.image(0).features) == REGIONS


@pytest.mark.parametrize("repeated", [False, True])
def test_images_without_regions_are_left_out(folder, repeated):
    edit(folder, "lengths", lambda x: x * np.array([1, 0, 1, 1]))
    edit(folder, "labels", lambda x: x * np.arange(IMAGES, dtype=np.int16)[:, None])
    captions = (folder / "train_caps.txt").read_text().splitlines()
    CaptionRelations.pack([[[(0, 1), (-1, -1), (i, i + 1)]] for i in range(12)]).save(
        folder / "train_caption_relations.npz", captions
    )
    if repeated:
        repeat_rows(folder, "ims")
    dataset = PrecompFolder(folder, without_regions="drop").split("train")
    assert (dataset.num_images, dataset.image_ids) == (3, ["0.jpg", "2.jpg", "3.jpg"])
    assert dataset.caption_image.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.caption(3).text == "caption 0 of 2"
    assert dataset.caption(3).relations.tolist() == [[[0, 1], [-1, -1], [6, 7]]]
    assert [int(dataset.image(i).features[0, 0]) for i in range(3)] == [0, 2, 3]
    assert [int(dataset.image(i).labels[0]) for i in range(3)] == [0, 2, 3]


def test_ids_of_captions_allow_any_number_of_captions(folder):
    owners = [0, 0, 1, 2, 2, 2, 3]
    write(folder / "train_ids.txt", [f"{i}.jpg" for i in owners])
    write(folder / "train_caps.txt", [f"of {i}" for i in owners])
    dataset = PrecompFolder(folder).split("train")
    assert (dataset.caption_image.tolist(), dataset.image_ids[3]) == (owners, "3.jpg")
    write(folder / "train_ids.txt", [f"{i}.jpg" for i in (0, 1, 0, 2, 2, 2, 3)])
    with pytest.raises(ValueError, match=r"train_caps\.txt: 7 captions for 4 rows of _ims\.npy"):
        PrecompFolder(folder).split("train")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "trainval.tsv",
            r"a file, expected a folder; `itmatch data convert \S+ --karpathy JSON --out FOLDER` makes a folder of f",
        ),
        (
            "photos",
            r"photos/train_ims\.npy: no such file; `itmatch data convert \S+ --karpathy JSON --out FOLDER` makes",
        ),
        ("coco.lmdb", r"a file, expected a folder; it is not read as an LMDB database"),
        ("empty", r"empty/train_ims\.npy: no such file; no files of features in this folder"),
    ],
)
def test_other_layouts_are_named_with_the_command(tmp_path, name, said):
    (tmp_path / "trainval.tsv").write_text("1\t2\t3\t0\t\t\n")
    (tmp_path / "coco.lmdb").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    np.savez(tmp_path / "photos/1.npz", x=np.zeros((2, 3)))
    with pytest.raises(FileNotFoundError, match=said):
        PrecompFolder(tmp_path / name).split("train")
