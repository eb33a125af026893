import json
from pathlib import Path

import numpy as np
import pytest

from itmatch.cli.check import check
from itmatch.data import CaptionRelations, CheckReport, Vocabulary, check_path


@pytest.fixture
def folder(tmp_path):
    for split, images in (("train", 4), ("dev", 2)):
        rng = np.random.default_rng(images)
        np.save(tmp_path / f"{split}_ims.npy", rng.standard_normal((images, 2, 3)).astype(np.float16))
        np.save(tmp_path / f"{split}_boxes.npy", np.tile(np.array([0, 0, 1, 1], np.float32), (images, 2, 1)))
        np.save(tmp_path / f"{split}_vg_labels.npy", np.zeros((images, 2), np.int16))
        np.save(tmp_path / f"{split}_relations.npy", np.zeros((images, 1, 3), np.int16))
        np.save(tmp_path / f"{split}_relation_scores.npy", np.ones((images, 1), np.float16))
        (tmp_path / f"{split}_caps.txt").write_text("a caption\n" * (2 * images))
        (tmp_path / f"{split}_ids.txt").write_text("".join(f"{split}{i}\n" for i in range(images)))
    return tmp_path


def test_a_good_folder(folder):
    report = check_path(folder)
    assert report.ok
    assert report.kind == "folder of precomputed features"
    text = str(report)
    assert "train: 4 images, 8 captions (2 an image)" in text
    assert "dev: features of 2 regions x 3, float16" in text
    assert "train_vg_labels.npy" in text
    assert "not there (optional): train_lengths.npy" in text
    assert text.endswith("ok")


def test_every_problem_is_listed(folder):
    features = np.load(folder / "train_ims.npy")
    features[2, 1, 0] = np.nan
    np.save(folder / "train_ims.npy", features)
    np.save(folder / "train_boxes.npy", np.full((4, 2, 4), 1.5, np.float32))
    np.save(folder / "train_relations.npy", np.full((4, 1, 3), 2))
    np.save(folder / "train_relation_scores.npy", np.full((4, 1), 2.0))
    np.save(folder / "train_vg_labels.npy", np.zeros((3, 2), int))
    (folder / "train_caps.txt").write_text("a caption\n" * 7 + " \n")
    (folder / "train_ids.txt").write_text("a\nb\na\ndev1\n")
    (folder / "dev_caps.txt").write_text("a caption\n" * 3)
    report = check_path(folder)
    expected = [
        "train_ims.npy: image 2 region 1: NaN or inf",
        "train_boxes.npy: image 0 region 0 has box [1.5",
        "train_relations.npy: image 0 relation 0 is [2, 2, 2]",
        "train_relation_scores.npy: image 0 relation 0 has score 2",
        "train_vg_labels.npy: shape (3, 2), expected 4 rows",
        "train_caps.txt:8: empty caption",
        "train_ids.txt:3: image id 'a'",
        "dev_caps.txt: 3 captions for 2 rows",
    ]
    for start in expected:
        assert sum(start in problem for problem in report.problems) == 1, start
    assert len(report.problems) == len(expected)
    assert not report.ok
    assert str(report).endswith(f"{len(expected)} problems")


def test_between_splits(folder):
    (folder / "dev_ids.txt").write_text("dev0\ntrain1\n")
    np.save(folder / "dev_ims.npy", np.random.default_rng(0).standard_normal((2, 2, 7)).astype(np.float32))
    problems = check_path(folder).problems
    assert problems == [
        f"{folder}: features of different sizes: dev 7, train 3",
        f"{folder}: dev and train share 1 image ids, the first is 'train1'",
    ]


def test_files_that_cannot_be_opened(folder):
    (folder / "train_ims.npy").write_bytes(b"x")
    (folder / "dev_caps.txt").unlink()
    np.save(folder / "dev_boxes.npy", np.array([{}], dtype=object), allow_pickle=True)
    problems = check_path(folder).problems
    assert any("train_ims.npy: not a .npy file" in problem for problem in problems)
    assert any("dev_caps.txt: no such file" in problem for problem in problems)


def test_relations_of_captions(folder):
    assert "train_caption_relations.npz" in str(check_path(folder))  # not there
    table = [[((0, 1), (-1, -1), (2, 9))]] * 6 + [[]] * 2
    CaptionRelations.pack(table).save(folder / "train_caption_relations.npz", ["a caption"] * 8)
    report = check_path(folder)
    assert report.ok
    assert "train: train_caption_relations.npz: 6 relations of 8 captions, 2 captions without" in report.found
    assert not any("train_caption_relations" in line for line in report.missing)
    (folder / "train_caps.txt").write_text("a raption\n" * 8)
    assert "train_caption_relations.npz: made for other captions" in check_path(folder).problems[0]


def test_boxes_in_pixels(folder):
    np.save(folder / "dev_boxes.npy", np.tile(np.array([0, 0, 50, 80], np.float32), (2, 2, 1)))
    assert "boxes in pixels" in check_path(folder).problems[0]
    np.save(folder / "dev_sizes.npy", np.full((2, 2), 100))
    assert check_path(folder).ok


def test_images_stored_once_a_caption(folder):
    for name in ("ims", "boxes"):
        path = folder / f"train_{name}.npy"
        np.save(path, np.load(path).repeat(2, 0))
    report = check_path(folder)
    assert report.ok
    assert any("4 images, stored once a caption (8 rows), 8 captions (2 an image)" in line for line in report.found)


def test_unequal_numbers_of_rows_an_image(folder):
    np.save(folder / "train_ims.npy", np.load(folder / "train_ims.npy").repeat([1, 3, 3, 1], 0))
    (folder / "train_ids.txt").unlink()
    report = check_path(folder)
    assert report.ok
    assert any(
        "4 images, stored once a caption (8 rows), equal rows that follow each other taken for one: 2 of 1 rows, "
        "2 of 3 rows, 8 captions (1 to 3 an image)" in line
        for line in report.found
    )


def test_sizes_that_make_nothing_of_boxes(folder):
    np.save(folder / "dev_boxes.npy", np.tile(np.array([0, 0, 50, 80], np.float32), (2, 2, 1)))
    for wrong in (np.inf, np.nan, 0, -1, 1e300):
        np.save(folder / "dev_sizes.npy", np.array([[100.0, 100], [100, wrong]]))
        assert f"dev_sizes.npy: image 1 has size [100.0, {float(wrong)}]" in check_path(folder).problems[0]


def test_files_that_were_made_and_never_filled(folder):
    features = np.load(folder / "dev_ims.npy")
    features[1] = 0
    np.save(folder / "dev_ims.npy", features)
    np.save(folder / "dev_boxes.npy", np.zeros((2, 2, 4), np.float32))
    report = check_path(folder)
    assert report.ok
    assert report.warnings == [
        f"{folder}/dev_ims.npy: image 1: zeros alone in the features",
        f"{folder}/dev_boxes.npy: 4 of 4 boxes have no area",
    ]
    assert check_path(folder / "dev_ims.npy").warnings == report.warnings[:1]


def test_padding_without_lengths(folder):
    for name in ("ims", "boxes"):
        padded = np.load(folder / f"dev_{name}.npy")
        padded[:, 1] = 0
        np.save(folder / f"dev_{name}.npy", padded)
    (warning,) = check_path(folder).warnings
    assert "dev_ims.npy: 2 regions of zeros alone, taken for regions; a lengths file says which are none" in warning
    np.save(folder / "dev_lengths.npy", np.ones(2, int))
    np.save(folder / "dev_relations.npy", np.full((2, 1, 3), -1))
    assert check_path(folder).warnings == []


def test_predicates_without_a_name(folder):
    (folder / "predicates.json").write_text('["on"]')
    assert check_path(folder).ok
    np.save(folder / "dev_relations.npy", np.array([[[0, 1, 1]], [[0, 5, -1]]]))
    assert "dev_relations.npy: predicate 1, expected 0..0, the names in" in check_path(folder).problems[0]
    (folder / "predicates.json").write_text("{}")
    assert "holds a dict" in check_path(folder).problems[0]


CHINESE = "".join(f"{i}只棕色的狗在公园里奔跑。\n" for i in range(8))


def test_captions_that_are_unknown_to_the_tokenizer(folder):
    assert "train: 0.0 % of the tokens are unknown to WordTokenizer (7 entries)" in check_path(folder).found
    (folder / "dev_caps.txt").write_text("a caption\n" * 3 + "other words\n")
    report = check_path(folder)
    assert report.ok
    assert report.warnings[0].startswith("dev: 25.0 % of the tokens are unknown to WordTokenizer (7 entries), expected")
    assert "\n  WARNING dev: 25.0 %" in str(report)
    (folder / "train_caps.txt").write_text(CHINESE, "utf-8")
    report = check_path(folder)
    assert [problem.split(",")[0] for problem in report.problems] == [
        f"{split}: 100.0 % of the tokens are unknown to WordTokenizer (5 entries)" for split in ("dev", "train")
    ]
    assert "Chinese" in report.problems[0]
    (folder / "train_caps.txt").unlink()  # nothing to make a vocabulary of
    assert not any("%" in line for line in check_path(folder).found)


def test_the_command_takes_a_tokenizer(folder, tiny_bert, capsys):
    assert check([folder]) == 0
    assert check([folder], tokenizer=Path(tiny_bert)) == 0
    assert (
        "WARNING train: 50.0 % of the tokens are unknown to HuggingFaceTokenizer (13 entries)"
        in capsys.readouterr().out
    )
    Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "hund"]).to_json(folder / "vocab.json")
    assert check([folder], tokenizer=folder / "vocab.json") == 1


def test_captions_of_annotations_are_measured_too(tmp_path):
    images = [
        {"split": split, "filename": f"{i}.jpg", "sentences": [{"raw": text}] * 4}
        for i, (split, text) in enumerate([("train", "a dog"), ("restval", "a cat"), ("val", "一只棕色的狗")])
    ]
    (tmp_path / "x.json").write_text(json.dumps({"images": images}))
    report = check_path(tmp_path / "x.json")
    assert report.problems[0].startswith("val: 100.0 % of the tokens are unknown to WordTokenizer (8 entries)")
    assert len(report.found) == 5


def test_other_folders_and_nothing(tmp_path):
    assert "neither a SPLIT_ims.npy" in check_path(tmp_path).problems[0]
    assert not check_path(tmp_path / "no").ok


def test_karpathy(tmp_path):
    path = tmp_path / "dataset.json"
    good = {"split": "train", "filename": "a.jpg", "imgid": 0, "sentences": [{"raw": "a"}] * 4}
    path.write_text(json.dumps({"images": [good]}))
    report = check_path(path)
    assert report.ok
    assert report.found == [
        "train: 1 images, 4 captions",
        "train: 0.0 % of the tokens are unknown to WordTokenizer (6 entries)",
    ]
    bad = [good, {**good, "filename": "b.jpg", "sentences": []}, {"split": "val", "filename": "c.jpg"}, 3]
    path.write_text(json.dumps({"images": bad}))
    problems = check_path(path).problems
    assert [problem.removeprefix(f"{path}: ") for problem in problems] == [
        "images[1] has the imgid of images[0]: 0",
        "images[1]: no sentences",
        "images[2] has no 'sentences' (list)",
        "images[2]: no sentences",
        "images[3] is a int, expected a dict",
    ]


def test_vocabulary_and_other_json(tmp_path):
    path = tmp_path / "vocab.json"
    Vocabulary(["<pad>", "<start>", "<end>", "<unk>"]).to_json(path)
    assert check_path(path).found == ["4 words, the specials included"]
    path.write_text('{"word2idx": {}}')
    assert "no 'idx2word'" in check_path(path).problems[0]
    path.write_text('{"other": {}}')
    assert "keys there: other" in check_path(path).problems[0]
    path.write_text("{")
    assert "not json" in check_path(path).problems[0]


def test_array(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((3, 2, 2), np.float32))
    assert check_path(path).found == ["shape (3, 2, 2), float32"]
    np.save(path, np.array([0, np.inf]))
    assert not check_path(path).ok
    path.write_bytes(b"")
    assert not check_path(path).ok


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("the 0.1 0.2\ndog 1 2\n", "2 words of 2 numbers"),
        ("2 3\nthe 0.1 0.2 0.3 \ndog 1 2 3 \n", "2 words of 3 numbers"),
        ("\ufeff2 3\nthe 0.1 0.2 0.3 \ndog 1 2 3 \n", "2 words of 3 numbers"),
    ],
)
def test_word_vectors(tmp_path, content, found):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    report = check_path(path)
    assert report.ok
    assert report.found == [found]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("the 0.1 0.2\ndog 1\n", "txt, line 2: 2 columns, expected 3 (a word and 2 numbers)"),
        ("the 0.1 0.2\ndog 1 x\n", "txt, line 2: 'x' is no finite number"),
        ("the 0.1 0.2\ndog 1 nan\n", "txt, line 2: 'nan' is no finite number"),
        ("the 0.1 0.2\ndog 1 1e39\n", "txt, line 2: '1e39' is no finite number of float32"),
        ("the\n", "txt, line 1: 1 columns, expected a word and its numbers"),
        ("", "txt: an empty file"),
    ],
)
def test_broken_word_vectors(tmp_path, content, problem):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    assert problem in check_path(path).problems[0]


def test_a_flood_of_problems_is_cut_when_printed():
    report = CheckReport("x", "folder", problems=[f"problem {i}" for i in range(60)])
    assert str(report).splitlines()[-2:] == ["  and 10 more", "60 problems"]
    assert "problem 49" in str(report)
    assert "problem 50" not in str(report)
