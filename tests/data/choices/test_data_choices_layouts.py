import csv
import json

import pytest

from itmatch.data.choices.layouts import read_choices
from itmatch.data.choices.rows import Choice, write_choices


def written(path, content):
    path.write_text(
        json.dumps(content) if path.suffix == ".json" else "".join(json.dumps(one) + "\n" for one in content)
    )
    return path


def test_our_own_comes_back(tmp_path):
    choices = [
        Choice("ä.jpg", ("a dog", "the dog"), ("a cat",), "noun"),
        Choice("b.jpg", ("x",), (), "single"),
        Choice("c.jpg", ("y",), ("z",), "", "pair 1"),
        Choice("d.jpg", ("a b",), ("b a",), "swap", relations=((((0, 1), (-1, -1), (2, 3)),), ())),
    ]
    write_choices(tmp_path / "test_choices.jsonl", choices)
    assert read_choices(tmp_path / "test_choices.jsonl") == choices


def test_relations_that_do_not_fit_their_captions_are_refused(tmp_path):
    record = {"image": "a.jpg", "right": ["a b"], "wrong": ["b a"], "relations": [[[[0, 1], [1, 2], [2, 4]]], []]}
    with pytest.raises(ValueError, match=r"own\.jsonl: record 0: relations.* caption 0"):
        read_choices(written(tmp_path / "own.jsonl", [record]))
    with pytest.raises(ValueError, match="relations of 1 captions, expected 2"):
        read_choices(written(tmp_path / "own.jsonl", [{**record, "relations": [[]]}]))


def test_sugarcrepe_and_its_successor(tmp_path):
    record = {"filename": "0.jpg", "caption": "a cat on a mat", "negative_caption": "a mat on a cat"}
    written(tmp_path / "swap_obj.json", {"0": record})
    written(tmp_path / "swap_att.json", [{**record, "caption2": "on a mat sits a cat", "id": 4}])
    first, second = read_choices(tmp_path)
    assert first == Choice("0.jpg", ("a cat on a mat", "on a mat sits a cat"), ("a mat on a cat",), "swap_att")
    assert second == Choice("0.jpg", ("a cat on a mat",), ("a mat on a cat",), "swap_obj")


def test_valse_keeps_what_its_annotators_agree_on(tmp_path):
    base = {"dataset": "SWiG", "image_file": "a/x.jpg", "caption": "a man runs", "foil": "a man sits"}
    content = {
        "actions_test_0": {**base, "linguistic_phenomena": "actions", "mturk": {"foil": 0, "caption": 3, "other": 0}},
        "actions_test_1": {**base, "linguistic_phenomena": "actions", "mturk": {"foil": 2, "caption": 1, "other": 0}},
        "actions_test_2": {**base, "linguistic_phenomena": "actions"},
    }
    found = read_choices(written(tmp_path / "actions.json", content))
    assert found == 2 * [Choice("x.jpg", ("a man runs",), ("a man sits",), "actions")]


def test_vsr_has_single_captions(tmp_path):
    rows = [
        {"image": "1.jpg", "caption": "The cat is on the bed.", "label": 1, "relation": "on"},
        {"image": "2.jpg", "caption": "The cat is under the bed.", "label": 0, "relation": "under"},
    ]
    found = read_choices(written(tmp_path / "test.jsonl", rows))
    assert found[0] == Choice("1.jpg", ("The cat is on the bed.",), (), "on")
    assert found[1] == Choice("2.jpg", (), ("The cat is under the bed.",), "under")


@pytest.mark.parametrize("names", [("ex_0_img_0", "ex_0_img_1"), ({"path": "x/ex_0_img_0"}, {"path": "ex_0_img_1"})])
def test_winoground_is_two_questions_of_a_group(tmp_path, names):
    row = {"id": 0, "image_0": names[0], "image_1": names[1], "caption_0": "a b", "caption_1": "b a", "tag": "Noun"}
    first, second = read_choices(written(tmp_path / "examples.jsonl", [row]))
    assert first == Choice("ex_0_img_0", ("a b",), ("b a",), "Noun", "examples 0")
    assert second == Choice("ex_0_img_1", ("b a",), ("a b",), "Noun", "examples 0")


def test_bivlc_from_a_table(tmp_path):
    row = {"image": "p/1.jpg", "caption": "a", "negative_image": "n/1x.jpg", "negative_caption": "b"}
    with (tmp_path / "bivlc.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*row, "type", "subtype"])
        table.writeheader()
        table.writerow({**row, "type": "replace", "subtype": "object"})
    first, second = read_choices(tmp_path / "bivlc.csv")
    assert first == Choice("1.jpg", ("a",), ("b",), "replace object", "bivlc 0")
    assert second == Choice("1x.jpg", ("b",), ("a",), "replace object", "bivlc 0")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", [{"caption": "x"}], r"a\.json: record 0 is .*expected one with"),
        ("a.json", [3], r"a\.json: record 0 is 3"),
        (
            "a.json",
            {"0": {"filename": "x", "caption": " ", "negative_caption": "b"}},
            r"a\.json: record 0: caption ' '",
        ),
        (
            "a.json",
            [{"filename": 3, "caption": "a", "negative_caption": "b"}],
            r"record 0: image: 3, expected the name",
        ),
        ("a.jsonl", [{"image": "x", "caption": "a", "label": 5, "relation": "on"}], "label: 5, expected 0 or 1"),
        ("a.jsonl", [{"image": "x", "right": [], "wrong": []}], "no captions"),
        ("a.json", [], "no questions in it"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_choices(written(tmp_path / name, content))


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        read_choices(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match="no questions in it"):
        read_choices(tmp_path)
