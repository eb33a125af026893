"""``itmatch data choices`` and ``itmatch choose``."""

import json

import numpy as np
import pytest
from helpers_cli import error_of, run, saved_model

CAPTIONS = ["a dog chases a cat", "a man on a horse", "a girl holds a cup", "a bird under a tree"]
TRIPLES = [["dog", "chases", "cat"], ["man", "on", "horse"], ["girl", "holds", "cup"], ["bird", "under", "tree"]]


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "test_ims.npy", generator.standard_normal((4, 3, 8)).astype(np.float32))
    (tmp_path / "test_caps.txt").write_text("".join(f"{text}\n" for text in CAPTIONS))
    (tmp_path / "test_ids.txt").write_text("".join(f"{k}.jpg\n" for k in range(4)))
    (tmp_path / "test_caption_triples.jsonl").write_text("".join(f"{json.dumps([one])}\n" for one in TRIPLES))
    return tmp_path


@pytest.fixture
def model(tmp_path):
    return saved_model(tmp_path, CAPTIONS)


def test_from_captions_to_figures(folder, model, capsys):
    assert run("data", "parse", folder, "test", "--triples") == 0
    assert run("data", "choices", folder, "test") == 0
    assert "test_choices.jsonl: 8 questions (4 replace, 4 swap)" in capsys.readouterr().out
    lines = [json.loads(line) for line in (folder / "test_choices.jsonl").read_text().splitlines()]
    assert lines[0]["wrong"] == ["a cat chases a dog"]
    assert lines[0]["image"] == "0.jpg"
    assert run("choose", model, folder, "--json-file", folder / "figures.json") == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[1:4]] == ["replace", "swap", "all"]
    figures = json.loads((folder / "figures.json").read_text())
    assert [(one["kind"], one["count"]) for one in figures] == [("replace", 4), ("swap", 4), ("all", 8)]
    assert f"{figures[2]['value']:.1f}" in table.splitlines()[3]


def test_a_file_of_another_layout(folder, model, capsys):
    record = {"filename": "x/2.jpg", "caption": "a girl holds a cup", "negative_caption": "a cup holds a girl"}
    (folder / "swap_obj.json").write_text(json.dumps({"0": record}))
    assert run("choose", model, folder, "--choices", folder / "swap_obj.json") == 0
    assert "swap_obj  accuracy  1" in capsys.readouterr().out


def test_what_is_missing_is_named(folder, model, capsys):
    assert "test_caption_relations.npz: no such file; itmatch data parse writes it" in error_of(
        capsys, "data", "choices", folder, "test"
    )
    assert "test_choices.jsonl: no such file" in error_of(capsys, "choose", model, folder)
    run("data", "parse", folder, "test", "--triples")
    run("data", "choices", folder, "test")
    assert "there is one already; --overwrite replaces it" in error_of(capsys, "data", "choices", folder, "test")
    assert run("data", "choices", folder, "test", "--overwrite") == 0


def test_questions_that_are_not_there_name_the_command_that_writes_them(folder, model, capsys):
    expected = f"{folder}/test_choices.jsonl: no such file; itmatch data choices {folder} test writes it"
    assert error_of(capsys, "choose", model, folder) == expected
