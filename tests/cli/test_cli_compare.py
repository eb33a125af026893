"""``itmatch compare``: groups, settings, differences; files of runs that are none."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_cli import error_of, run


@pytest.mark.parametrize("figure", ["null", "true", '"9.5"', "NaN", "Infinity", "1e999", "[1]", "7" * 400])
def test_compare_figures_that_are_none(figure, tmp_path, capsys):
    (tmp_path / "test_metrics.json").write_text(f'{{"rsum": {figure}}}')
    message = error_of(capsys, "compare", tmp_path)
    assert re.search(r"test_metrics\.json: no figures of a test \('rsum' is .*, expected a finite number\)", message)


def test_compare_a_folder_above_a_run(tmp_path, capsys):
    (tmp_path / "runs/version_0").mkdir(parents=True)
    (tmp_path / "runs/version_0/test_metrics.json").write_text("{}")
    told = (
        f"runs/test_metrics.json: no such file; a run that was tested has one; {tmp_path}/runs/version_0 is such a run"
    )
    assert error_of(capsys, "compare", tmp_path / "runs").endswith(told)


RANKS = {
    "image_to_text": np.array([0, -1, 3]),
    "text_to_image": np.array([0, 2, 1, 0]),
    "caption_image": np.array([0, 0, 2, 2]),
    "image_ids": np.array(["a", "b", "c"]),
    "captions_digest": np.array("digest"),
}
BROKEN_RANKS = {
    r"no 'image_ids' in it": {"image_ids": None},
    r"image_to_text: float64 of shape \(3,\), expected integers of shape \(3,\)": {"image_to_text": np.zeros(3)},
    r"image_to_text: -2\.\.0, expected numbers of -1 to 3": {"image_to_text": np.array([-2, 0, 0])},
    r"text_to_image: 0\.\.3, expected numbers of 0 to 2": {"text_to_image": np.arange(4)},
    r"text_to_image: nothing, expected numbers": {
        "text_to_image": np.arange(0),
        "image_to_text": np.array([-1, -1, -1]),
    },
    r"caption_image: int64 of shape \(2,\), expected integers of shape \(4,\)": {"caption_image": np.array([0, 1])},
    r"caption_image: -1\.\.2, expected numbers of 0 to 2": {"caption_image": np.array([0, -1, 2, 2])},
    r"image_ids: int64, expected 3 names": {"image_ids": np.arange(3)},
    r"image_to_text: the images with a rank are not those with captions": {"image_to_text": np.array([-1, -1, -1])},
    r"captions_digest: holds pickled Python objects": {"captions_digest": np.array([None], object)},
}


@pytest.mark.parametrize("message", BROKEN_RANKS)
def test_compare_ranks_that_are_none(message, tmp_path, capsys):
    for run_, content in (("one", RANKS), ("two", RANKS | BROKEN_RANKS[message])):
        (tmp_path / run_).mkdir()
        (tmp_path / run_ / "test_metrics.json").write_text('{"rsum": 9.5}')
        np.savez(tmp_path / run_ / "test_ranks.npz", **{k: v for k, v in content.items() if v is not None})
    found = error_of(capsys, "compare", tmp_path / "one", tmp_path / "two")
    assert re.search(rf"two/test_ranks\.npz: {message}", found), found
    (tmp_path / "two/test_ranks.npz").write_bytes(b"PK nothing")
    assert "two/test_ranks.npz: no .npz file" in error_of(capsys, "compare", tmp_path / "one", tmp_path / "two")


RECALLS = {f"{way}_r{k}": 5.0 * k for way in ("i2t", "t2i") for k in (1, 5, 10)}
FIGURES = RECALLS | {"i2t_medr": 7.0, "t2i_meanr": 9.5, "rsum": 160.0}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Writes a run in this folder: its figures, and ranks and a configuration if they are given."""
    monkeypatch.chdir(tmp_path)

    def write(name, figures=FIGURES, ranks=None, config=None):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "test_metrics.json").write_text(json.dumps(figures))
        if ranks is not None:
            np.savez(folder / "test_ranks.npz", **ranks)
        if config is not None:
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return name

    return write


def ranks_of(seed, images=40, worst=15, digest="d"):
    random = np.random.default_rng(seed)
    return {
        "image_to_text": random.integers(0, worst, images),
        "text_to_image": random.integers(0, worst, 2 * images),
        "caption_image": np.arange(2 * images) // 2,
        "image_ids": np.array([f"i{k}" for k in range(images)]),
        "captions_digest": np.array(digest),
    }


def config_of(seed, margin=0.2, root="data", name="x", **more):
    return {
        "seed_everything": seed,
        "trainer": {"max_epochs": 3, "logger": {"init_args": {"save_dir": name}}, "default_root_dir": name},
        "checkpoint": {"dirpath": name, "filename": name, "monitor": "val/rsum"},
        "report": {"dirpath": name},
        "model": {"objective": {"margin": margin}},
        "data": {"source": {"class_path": "itmatch.data.PrecompFolder", "init_args": {"root": root}}},
        "protocol": None,
        "ckpt_path": None,
    } | more


def compared(capsys, *args):
    """The lines that a comparison prints, and what it tells."""
    capsys.readouterr()
    assert run("compare", *args) == 0
    printed = capsys.readouterr()
    return printed.out.splitlines(), printed.err.splitlines()


def table_of(capsys, *args):
    """The rows of the csv form."""
    lines, _ = compared(capsys, *args, "--form=csv")
    return list(csv.DictReader(lines))


def test_groups_are_those_of_images_and_captions(runs, capsys):
    names = [
        runs("a", ranks=ranks_of(0)),
        runs("other_captions", ranks=ranks_of(1, digest="e")),
        runs("fewer", ranks=ranks_of(2, images=30)),
        runs("b", ranks=ranks_of(3), config=config_of(0)),
        runs("same_data", config=config_of(1)),
        runs("other_data", config=config_of(1, root="elsewhere")),
        runs("nothing"),
        runs("part", FIGURES | {"images": 10.0, "last_weights": 1.0}, config=config_of(1)),
    ]
    found = {}
    for row in table_of(capsys, *names):
        found.setdefault(row["group"], []).append(row["label"])
    assert found == {
        "whole split, test: 40 images, 80 captions (set 1 of 2)": ["a", "b", "same_data"],
        "whole split, test: 40 images, 80 captions (set 2 of 2)": ["other_captions"],
        "whole split, test: 30 images, 60 captions": ["fewer"],
        "whole split, test: data as config.yaml names them": ["other_data"],
        "whole split, test: images and captions not known": ["nothing"],
        "whole split, test: data as config.yaml names them, the first 10 images": ["part (last weights)"],
    }
    lines, told = compared(capsys, *names)
    assert sum(set(line) == {"-"} for line in lines) == 6
    assert "no interval: same_data without test_ranks.npz, as of a whole split" in told
    assert "not shown: i2t_medr, t2i_meanr (--figures all)" in told
    _, told = compared(capsys, "a", "fewer")
    assert told[-1] == "no interval: no two lines are of one test set and protocol (a and fewer: 40 and 30 images)"
    _, told = compared(capsys, "a", "other_captions")
    assert told[-1].endswith("protocol (a and other_captions: the same images, other captions)")


def test_a_run_is_in_every_group_that_it_has_figures_for(runs, capsys):
    folds = {"coco_1k_rsum": 480.0, "coco_1k_i2t_r1": 70.0, "coco_1k_rsum_std": 2.0}
    benchmarks = {
        "eccv_i2t_r1": 30.0,
        "eccv_t2i_map_at_r": 20.0,
        "cxc_t2i_r5": 40.0,
        "mine_rsum": 1.0,
        "mine_more": 2.0,
    }
    same = {f"coco_5k_{name}": value for name, value in FIGURES.items()}
    runs("several", FIGURES | folds | benchmarks | same, ranks_of(0))
    runs("one", FIGURES, ranks_of(1))
    runs("folds_alone", {"rsum": 490.0, "i2t_r1": 75.0, "rsum_std": 1.0})
    rows = table_of(capsys, "several", "one", "folds_alone")
    where = "test: 40 images, 80 captions"
    assert [(row["group"], row["label"]) for row in rows] == [
        (f"COCO 5K, {where}", "several"),
        (f"COCO 5K, {where}", "one"),
        (f"COCO 1K, {where}", "several"),
        (f"ECCV, {where}", "several"),
        (f"CxC, {where}", "several"),
        (f"mine, {where}", "several"),
        ("COCO 1K, test: images and captions not known", "folds_alone"),
    ]
    assert (rows[2]["rsum"], rows[3]["t2i_map_at_r"], rows[5]["more"]) == ("480.0000", "20.0000", "2.0000")
    _, told = compared(capsys, "several", "one", "folds_alone")
    assert "not shown: i2t_medr, t2i_meanr, coco_1k_rsum_std, mine_more (--figures all)" in told
    lines, told = compared(capsys, "several", "one", "--figures", "eccv_t2i_map_at_r", "i2t_medr")
    assert [line.split() for line in lines[:5:4]] == [["i2t", "medR"], ["one", "7.0*"]]
    assert told[0] == f"not shown: COCO 1K, {where}, which has none of --figures"
    assert "--figures: no run has 'rsmu'; did you mean 'rsum'?" in error_of(capsys, "compare", "one", "--figures=rsmu")


def test_figures_of_a_whole_split_under_another_name_stay_if_they_differ(runs, capsys):
    runs("a", FIGURES | {"flickr30k_rsum": 161.0})
    assert [row["rsum"] for row in table_of(capsys, "a")] == ["160.0000", "161.0000"]


def test_runs_that_differ_in_their_seed_are_one_line_if_asked(runs, capsys):
    for seed in (0, 1, 2):
        runs(f"a{seed}", FIGURES | {"rsum": 160.0 + 3 * seed}, ranks_of(seed), config_of(seed, name=f"p{seed}"))
    runs("b", FIGURES, ranks_of(5), config_of(3, margin=0.3))
    runs("again", FIGURES, ranks_of(0), config_of(0, name="again"))
    runs("bare", FIGURES, ranks_of(0))
    runs("unseeded", FIGURES, ranks_of(0), config_of(None))
    names = ["a0", "b", "a1", "again", "bare", "a2", "unseeded"]
    rows = table_of(capsys, *names)
    assert [row["label"] for row in rows] == names
    _, told = compared(capsys, *names)
    assert told[0].startswith("a0, a1, a2: alike but for their seeds, --over-seeds shows their mean")
    rows = table_of(capsys, *names, "--over-seeds")
    assert [row["label"] for row in rows] == ["a0 (3 seeds)", "b", "again", "bare", "unseeded"]
    assert (rows[0]["runs"], rows[0]["rsum"], rows[0]["rsum_sd"]) == ("3", "163.0000", "3.0000")
    assert rows[1]["rsum_sd"] == ""
    lines, told = compared(capsys, *names, "--over-seeds")
    assert any(line.startswith("a0 (3 seeds)") and "163.0 ± 3.0*" in line for line in lines)
    assert "again: the setting and the seed (0) of a0; it has a line of its own" in told
    assert "bare: no config.yaml, so its setting is not known and it has a line of its own" in told
    assert "unseeded: no seed in its config.yaml, so it has a line of its own" in told
    assert any(line.startswith("rSum of a0 (3 seeds) less that of b:") for line in lines)


def test_names(runs, capsys):
    for seed in (0, 1):
        runs(f"a{seed}", config=config_of(seed))
    assert [row["label"] for row in table_of(capsys, "a0", "a1", "--names", "A", "B")] == ["A", "B"]
    assert [row["label"] for row in table_of(capsys, "a0", "a1", "--over-seeds", "--names=A")] == ["A (2 seeds)"]
    message = "--names: 3, expected 2, one per run: a0, a1"
    assert message in error_of(capsys, "compare", "a0", "a1", "--names", "A", "B", "C")
    message = "--names: 2, expected 1, one per setting: a0"
    assert message in error_of(capsys, "compare", "a0", "a1", "--over-seeds", "--names", "A", "B")
    assert "--names: 'A' twice" in error_of(capsys, "compare", "a0", "a1", "--names", "A", "A")


def test_tests_of_checkpoints_have_the_settings_of_their_training(runs, capsys):
    for name, seed, margin in (("x", 0, 0.2), ("y", 1, 0.2), ("z", 2, 0.3)):
        runs(f"trained/{name}", config=config_of(seed, margin))
        Path(f"trained/{name}/checkpoints").mkdir()
        checkpoint = Path(f"trained/{name}/checkpoints/best.ckpt").resolve()
        checkpoint.touch()
        runs(name, config=config_of(0, ckpt_path=str(checkpoint)))
    runs("lost", config=config_of(0, ckpt_path="gone/checkpoints/best.ckpt"))
    rows = table_of(capsys, "x", "y", "z", "lost", "--over-seeds")
    assert [row["label"] for row in rows] == ["x (2 seeds)", "z", "lost"]


def test_differences_of_every_two_with_what_many_of_them_mean(runs, capsys):
    for seed in range(3):
        runs(f"r{seed}", ranks=ranks_of(seed, worst=12 + 6 * seed))
    lines, _ = compared(capsys, "r0", "r1", "r2")
    pairs = [line for line in lines if line.startswith("rSum of")]
    assert [line.partition(":")[0] for line in pairs] == [
        f"rSum of {one} less that of {other}" for one, other in (("r0", "r1"), ("r0", "r2"), ("r1", "r2"))
    ]
    assert all(
        re.search(r"95 % interval \S+ to \S+, p = \S+, among 3 pairs \S+ \(10000 samples", line) for line in pairs
    )
    assert lines[-1].startswith("3 pairs: each interval and p is of its pair alone")
    two, _ = compared(capsys, "r0", "r1")
    assert two[-1] == re.sub(r", among 3 pairs \S+", "", pairs[0])
    markdown, _ = compared(capsys, "r0", "r1", "--form=markdown")
    assert markdown[-2:] == ["", f"- {two[-1]}"]
    assert compared(capsys, "r0", "r1", "--form=latex")[0][-1] == f"% {two[-1]}"
    assert two[-1] in compared(capsys, "r0", "r1", "--form=csv")[1]


def test_published_results_stand_where_their_protocol_is(runs, capsys):
    runs("folds", {"rsum": 490.0, "rsum_std": 1.0})
    runs("whole", {"rsum": 400.0})
    runs("small", {"rsum": 400.0}, ranks_of(0))
    runs("flickr", {"rsum": 400.0}, config=config_of(0, protocol={"class_path": "itmatch.evaluation.Flickr30K"}))
    names = ["folds", "whole", "small", "flickr"]
    found = {}
    for row in table_of(capsys, *names, "--published", "coco_1k", "coco_5k"):
        found.setdefault(row["group"], []).append(row["label"])
    assert {group: (labels[0], labels[-1]) for group, labels in found.items()} == {
        "COCO 1K, test: images and captions not known": ("VSE++ (GRU)", "folds"),
        "whole split, test: images and captions not known": ("VSE++ (GRU)", "whole"),
        "whole split, test: 40 images, 80 captions": ("small", "small"),
        "Flickr30K, test: data as config.yaml names them": ("flickr", "flickr"),
    }
    rows = table_of(capsys, "small", "--published=flickr30k")
    assert {row["group"] for row in rows[1:]} == {"Flickr30K, as published"}
    assert rows[-1]["key"] == "fu2024laps"
    assert r"CHAN (BERT-base)~\cite{pan2023chan} & " in "\n".join(
        compared(capsys, "small", "--published=flickr30k", "--form=latex")[0]
    )
    entries, _ = compared(capsys, "small", "--published", "flickr30k", "coco_1k", "--form=bibtex")
    assert [line for line in entries if line.startswith("@")].count("@inproceedings{pan2023chan,") == 1
    assert "--form bibtex: the entries are those of published" in error_of(capsys, "compare", "small", "--form=bibtex")
    message = error_of(capsys, "compare", "small", "--published=flickr30kk")
    assert message.startswith("--published: 'flickr30kk', expected one of flickr30k, coco_1k, coco_5k (see ")


def test_a_broken_configuration_is_named(runs, capsys):
    runs("a")
    Path("a/config.yaml").write_text("a: [")
    assert "a/config.yaml" in error_of(capsys, "compare", "a")
    Path("a/config.yaml").write_text("1: 2\nb: {3: x, c: 4}\nprotocol: 7\ndata: []\ntrainer: none\n")
    assert len(table_of(capsys, "a", "a", "--over-seeds")) == 2
