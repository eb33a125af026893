import json
from pathlib import Path

import numpy as np
import pytest
from helpers_layouts import write_bottom_up

from itmatch.__main__ import main
from itmatch.cli.data.check import check
from itmatch.data import CaptionRelations, CheckReport, Vocabulary, check_path


@pytest.fixture
def folder(tmp_path):
    for split, images in (("train", 4), ("dev", 2), ("test", 3)):
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
    assert "train: 4 images, 8 captions (2 per image)" in text
    assert "dev: features of 2 regions x 3, float16" in text
    assert "dev: 2 regions per image, their norms near 1.5 and up to 3.24" in text
    assert "dev: boxes inside their images, of 100 % of them in the mean" in text
    assert "train_vg_labels.npy" in text
    assert text.endswith("\n  not there (optional): lengths, caption_relations\nok")
    (folder / "dev_boxes.npy").unlink()
    assert str(check_path(folder)).endswith("\n  not there (optional): lengths, caption_relations, dev_boxes\nok")


def test_every_problem_is_listed(folder):
    features = np.load(folder / "train_ims.npy")
    features[2, 1, 0] = np.nan
    np.save(folder / "train_ims.npy", features)
    np.save(folder / "train_boxes.npy", np.full((4, 2, 4), 1.5, np.float32))
    np.save(folder / "train_relations.npy", np.full((4, 1, 3), 2))
    np.save(folder / "train_relation_scores.npy", np.full((4, 1), 2.0))
    np.save(folder / "train_vg_labels.npy", np.zeros((3, 2), int))
    (folder / "train_ids.txt").write_text("a\nb\na\nd\n")
    (folder / "dev_caps.txt").write_text("a caption\n" * 3)
    report = check_path(folder)
    expected = [
        "train_ims.npy: image 2 region 1: NaN or inf",
        "train_boxes.npy: image 0 region 0 has box [1.5",
        "train_relations.npy: image 0 relation 0 is [2, 2, 2]",
        "train_relation_scores.npy: image 0 relation 0 has score 2",
        "train_vg_labels.npy: shape (3, 2), expected 4 rows",
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
    report = check_path(folder)
    assert report.problems == [f"{folder}: features of different sizes: dev 7, test 3, train 3"]
    assert report.warnings == [f"{folder}: dev and train share 1 image id, the first is 'train1'"]


def test_files_that_cannot_be_opened(folder):
    (folder / "train_ims.npy").write_bytes(b"x")
    (folder / "dev_caps.txt").unlink()
    np.save(folder / "dev_boxes.npy", np.array([{}], dtype=object), allow_pickle=True)
    report = check_path(folder)
    problems = report.problems
    assert any("train_ims.npy: not a .npy file" in problem for problem in problems)
    assert report.not_ready.endswith("without captions, for `itmatch predict` alone: dev")


def test_relations_of_captions(folder):
    assert any("train_caption_relations.npz" in line for line in check_path(folder).missing)
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
    assert any("4 images, stored once per caption (8 rows), 8 captions (2 per image)" in line for line in report.found)


def test_unequal_numbers_of_rows_an_image(folder):
    np.save(folder / "train_ims.npy", np.load(folder / "train_ims.npy").repeat([1, 3, 3, 1], 0))
    (folder / "train_ids.txt").unlink()
    report = check_path(folder)
    assert report.ok
    assert any(
        "4 images, stored once per caption (8 rows), equal rows that follow each other taken for one: 2 of 1 rows, "
        "2 of 3 rows, 8 captions (1 to 3 per image)" in line
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
        f"{folder}/dev_boxes.npy: 4 of 4 boxes have no area",
        f"{folder}/dev_ims.npy: image 1: zeros alone in the features",
    ]
    assert check_path(folder / "dev_ims.npy").warnings == report.warnings[1:]
    np.save(folder / "dev_ims.npy", np.zeros_like(features))
    for path in (folder, folder / "dev_ims.npy"):
        report = check_path(path)
        (problem,) = report.problems
        assert problem.startswith(f"{folder}/dev_ims.npy: zeros alone in the features of all images; was the file made")
        assert not any("zeros alone" in warning for warning in report.warnings)
    np.save(folder / "dev_lengths.npy", np.array([0, 1]))
    np.save(folder / "dev_relations.npy", np.full((2, 1, 3), -1))
    assert "all images" in check_path(folder).problems[0]


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
        f"{split}: 100.0 % of the tokens are unknown to WordTokenizer (5 entries)" for split in ("dev", "test", "train")
    ]
    assert "Chinese" in report.problems[0]
    (folder / "train_caps.txt").unlink()  # nothing to make a vocabulary of
    assert not any("% of the tokens" in line for line in check_path(folder).found)


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
    assert len(report.found) == 6
    assert 'restval: is in no stage; --data.source.train "[train, restval]" trains on it, too' in report.found


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
        "train: 1 image, 4 captions (4 per image)",
        "train: 0.0 % of the tokens are unknown to WordTokenizer (6 entries)",
    ]
    bad = [good, {**good, "filename": "b.jpg", "sentences": []}, {"split": "val", "filename": "c.jpg"}, 3]
    path.write_text(json.dumps({"images": bad}))
    problems = check_path(path).problems
    assert [problem.removeprefix(f"{path}: ") for problem in problems] == [
        "images[2] has no 'sentences' (list)",
        "images[3] is a int, expected a dict",
        "images[1]: no sentences, which other images of split train have",
    ]
    assert check_path(path).warnings == [f"{path}: images[1] has the imgid of {path}: images[0]: 0"]


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
        ("the 0.1 0.2\ndog 1 x\n", "txt, line 2: 'x' is no finite number of float32"),
        ("the 0.1 0.2\ndog 1 nan\n", "txt, line 2: 'nan' is no finite number"),
        ("the 0.1 0.2\ndog 1 1e39\n", "txt, line 2: '1e39' is no finite number"),
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


def test_what_fit_lacks_is_named(folder, capsys):
    for name in folder.glob("dev_*"):
        name.rename(folder / name.name.replace("dev_", "valid_"))
    report = check_path(folder)
    assert report.ok
    assert not report.ready
    assert str(report).splitlines()[-1] == (
        "not ready: no split dev (val); name it by --data.source.val NAME; there: test, train, valid"
    )
    assert check([folder]) == 1
    for name in folder.glob("test_*"):
        name.unlink()
    assert "--data.source.val NAME --data.source.test NAME; there: train, valid" in check_path(folder).not_ready
    assert check([folder], json=True) == 1
    capsys.readouterr()
    assert main(["data", "check", str(folder), str(folder / "train_ims.npy"), "--json"]) == 1
    whole, array = json.loads(capsys.readouterr().out)
    assert (whole["ok"], whole["ready"], array["ready"]) == (True, False, True)
    assert whole["not_ready"].startswith("no split dev (val), test (test)")
    assert set(whole) == {"path", "kind", "found", "missing", "problems", "warnings", "not_ready", "ok", "ready"}


def test_lengths_that_are_those_of_other_features(folder):
    features = np.ones((4, 3, 3), np.float32) * np.arange(1, 5)[:, None, None].astype(np.float32)
    features[1, 1:] = 0
    np.save(folder / "train_ims.npy", features)
    for name in ("boxes", "vg_labels", "relations", "relation_scores"):
        (folder / f"train_{name}.npy").unlink()
    np.save(folder / "train_lengths.npy", np.array([3, 2, 2, 3]))
    report = check_path(folder)
    assert report.ok
    assert report.warnings == [
        f"{folder}/train_ims.npy: 1 region of zeros alone, taken for regions; by the lengths too",
        f"{folder}/train_ims.npy: image 2: numbers beyond its length; are the lengths of other features?",
    ]
    assert any("train: 2 to 3, 2.5 in the mean, regions per image" in line for line in report.found)


def test_numbers_of_unusual_size(folder):
    good = np.random.default_rng(5).standard_normal((4, 2, 3)).astype(np.float32)
    np.save(folder / "train_ims.npy", good * 1e6)
    usual = 1e6 * np.median(np.linalg.norm(good, axis=-1).mean(1))
    assert f"train_ims.npy: norms near {usual:.3g}, expected 0.001 to 10000" in check_path(folder).warnings[0]
    good[3] *= 1000
    np.save(folder / "train_ims.npy", good)
    assert any("is a part of another scale?" in warning for warning in check_path(folder).warnings)
    np.save(folder / "train_ims.npy", good[:1].repeat(4, 0))
    assert "image 1 has the features of image 0 (3 such in all)" in check_path(folder).warnings[-1]


def test_boxes_that_were_divided_twice(folder):
    np.save(folder / "dev_boxes.npy", np.tile(np.array([0, 0, 0.002, 0.003], np.float32), (2, 2, 1)))
    assert check_path(folder).warnings == [
        f"{folder}/dev_boxes.npy: no box goes beyond 0.003 of a side; were they divided twice?"
    ]
    np.save(folder / "dev_boxes.npy", np.tile(np.array([-0.005, 0, 1, 1.004], np.float32), (2, 2, 1)))
    assert any("4 of 4 reach out a little and are cut" in line for line in check_path(folder).found)


def test_images_that_are_in_two_splits_without_ids(folder):
    for split in ("train", "dev"):
        (folder / f"{split}_ids.txt").unlink()
    features = np.load(folder / "train_ims.npy")
    np.save(folder / "dev_ims.npy", features[[1, 3]])
    assert check_path(folder).warnings == [
        f"{folder}: 2 images of dev have the features of images of train, the first is image 0"
    ]


def test_a_folder_with_a_file_per_image(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).standard_normal((2 + i, 4)).astype(np.float32))
    report = check_path(tmp_path)
    assert report.ok
    assert report.found[0] == "3 files, 4 numbers per region"
    (tmp_path / "1.npy").write_bytes(b"x")
    (tmp_path / "2.npy").unlink()
    np.save(tmp_path / "2.npy", np.full((2, 4), np.nan, np.float32))
    assert [problem.removeprefix(f"{tmp_path}") for problem in check_path(tmp_path).problems] == [
        "/1.npy: not a .npy file (EOF: reading magic string, expected 8 bytes got 1)",
        ": image '2.npy' region 0: NaN or inf in the features (2 such in all)",
    ]


def test_features_beside_a_json_name_the_next_command(tmp_path, capsys):
    (tmp_path / "f").mkdir()
    for name in ("0", "1"):
        np.savez(tmp_path / "f" / name, x=np.random.default_rng(int(name)).random((2, 3), np.float32))
    folder = str(tmp_path / "f")
    assert check_path(folder).found[-1] == f"next: itmatch data convert {folder} --karpathy JSON --out FOLDER"
    images = [{"imgid": i, "filename": f"{i}.jpg", "split": "train", "sentences": [{"raw": "a"}]} for i in range(2)]
    made = tmp_path / "f/dataset.json"
    made.write_text(json.dumps({"images": images}))
    assert check_path(folder).found[-1] == f"next: itmatch data convert {folder} --karpathy {made} --out FOLDER"
    report = check_path(folder, features=made)
    assert report.problems == [
        f"--features {made}: a json of captions, which comes first: itmatch data check {made} --features {folder}"
    ]
    precomp = tmp_path / "p"
    precomp.mkdir()
    np.save(precomp / "test_ims.npy", np.ones((1, 2, 3), np.float32))
    (precomp / "test_caps.txt").write_text("a dog\n")
    told = f"--features {folder}: not looked at; it goes with a json of captions, or with lists of captions of photos"
    assert told in check_path(precomp, features=folder).problems
    assert main(["data", "check", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "features or x" in shown
    assert "image_w and image_h" in shown


def test_a_folder_with_tsv_files_names_the_next_command(tmp_path):
    for name in ("a", "b"):
        write_bottom_up(tmp_path / f"{name}.tsv")
    report = check_path(tmp_path)
    both = f"{tmp_path / 'a.tsv'} {tmp_path / 'b.tsv'}"
    assert report.found[-1] == f"next: itmatch data convert {both} --karpathy JSON --out FOLDER"
    assert report.ok


def test_coco_s_own_captions(tmp_path):
    path = tmp_path / "captions_val2014.json"
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (5, 9)]
    annotations = [{"image_id": i, "caption": "a dog"} for i in (5, 9) for _ in range(4 + i // 5)]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    report = check_path(path)
    assert report.kind == "COCO's captions"
    assert report.found[0] == ("val2014: 2 images, 10 captions (5 per image)")
    assert report.not_ready.endswith("--data.source.test NAME; there: val2014")
    annotations.append({"image_id": 5, "caption": "a cat"})
    annotations.append({"image_id": 7, "caption": "a cat"})
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    report = check_path(path)
    assert report.found[0].endswith("(5 to 6 per image; captions_per_image: 5 takes the first 5 of each)")
    assert report.problems == [f"{path}: annotations[11] has image_id 7, which is not among the 'images'"]


def test_characters_as_tokenizer(folder):
    for split in ("train", "dev", "test"):
        count = len(np.load(folder / f"{split}_ims.npy"))
        (folder / f"{split}_caps.txt").write_text("".join(CHINESE.splitlines(keepends=True)[: 2 * count]), "utf-8")
    assert check([folder]) == 1
    assert check([folder], tokenizer=Path("characters")) == 0
