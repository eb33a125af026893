"""``itmatch judge``."""

import json

import numpy as np
import pytest
from helpers_cli import error_of, run, saved_model

CAPTIONS = ["a dog chases a cat", "a man on a horse", "a girl holds a cup"]


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "test_ims.npy", np.random.default_rng(0).standard_normal((3, 3, 8)).astype(np.float32))
    (tmp_path / "test_caps.txt").write_text("".join(f"{text}\n" for text in CAPTIONS))
    (tmp_path / "test_ids.txt").write_text("".join(f"{k}.jpg\n" for k in range(3)))
    rows = [f"{k}.jpg,{text},{1 + (k + t) % 4},{1 + t % 3}" for k in range(4) for t, text in enumerate(CAPTIONS)]
    (tmp_path / "ratings.csv").write_text("\n".join(["image,caption,rating_1,rating_2", *rows]) + "\n")
    return tmp_path


@pytest.fixture
def model(tmp_path):
    return saved_model(tmp_path, CAPTIONS)


def test_a_table_and_its_figures(folder, model, capsys):
    table, figures = folder / "ratings.csv", folder / "figures.json"
    assert run("judge", model, folder, "--ratings", table, "--skip-unknown", "--json-file", figures) == 0
    told = capsys.readouterr()
    assert "ratings.csv: left out 3 of 12 pairs, whose images are not in" in told.err
    lines = [line.split() for line in told.out.splitlines()]
    assert lines[0] == ["figure", "ratings", "pairs", "images", "percent"]
    found = json.loads(figures.read_text())
    assert [line[0] for line in lines[1:3]] == ["tau_b", "tau_c"]
    assert lines[1][1:5] == ["18", "9", "3", f"{found['tau_b']:.1f}"]
    assert lines[2][4:] == [f"{found['tau_c']:.1f}", "±", f"{found['tau_c_error']:.1f}"]
    assert run("judge", model, folder, "--ratings", table, "--skip-unknown", "--average", "--samples", "9") == 0
    assert "tau_b   9 " in capsys.readouterr().out


def test_unknown_images_are_an_error(folder, model, capsys):
    told = error_of(capsys, "judge", model, folder, "--ratings", folder / "ratings.csv")
    assert "1 of the 4 images of the ratings are not in it, such as '3.jpg'" in told
    assert "ratings" in error_of(capsys, "judge", model, folder)
