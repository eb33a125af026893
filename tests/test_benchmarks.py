"""The benchmarks run, made tiny, and their textbook versions say the same as the library. No time is asserted."""

import argparse
import io
import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from itmatch.data import Vocabulary, WordTokenizer, save_array
from itmatch.models import MatchingModel, chan_gru

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"
TINY = ["--images", "4", "--captions", "6", "--dim", "16", "--regions", "5", "--threads", "1", "--repeat", "1"]


def run(*arguments, script="scoring.py", tiny=TINY):
    """What a benchmark prints, run in this process, which has the libraries loaded."""
    before, text = (sys.argv, sys.path), io.StringIO()
    sys.argv, sys.path = [script, *tiny, *arguments], [str(FOLDER), *sys.path]
    try:
        with redirect_stdout(text):
            runpy.run_path(str(FOLDER / script), run_name="__main__")
    finally:
        sys.argv, sys.path = before
        forget()
    return text.getvalue()


def forget():
    """Take the scripts out of what is imported: their names are short."""
    for name in [name for name, module in sys.modules.items() if str(FOLDER) in str(getattr(module, "__file__", ""))]:
        sys.modules.pop(name)


def run_alone(*arguments, script, tiny=(), timeout=280):
    """The same in a process of its own, for those that start others or look at the whole process."""
    command = [sys.executable, str(FOLDER / script), *tiny, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout, env=environment).stdout


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks") / "scoring.json"
    return run_alone("--json", str(path), script="scoring.py", tiny=TINY), json.loads(path.read_text("utf-8"))


def test_the_table_has_every_row(result):
    text, numbers = result
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    works = [row[0] for row in table[2:]]
    wanted = ["hard alignment", "SCAN t2i", "SCAN i2t", "CMSEI / Hire"]
    newer = ["smooth Chamfer", "AVSE", "LAPS"]
    refined = "CMSEI / Hire, refined"
    assert works[: 12 + 2 * len(newer)] == [
        *(f"{name}, inference" for name in [*wanted, refined, "CMSEI / Hire, all parts", *newer]),
        "hard alignment, backward",
        *(f"{name}, training" for name in [*wanted, refined, *newer]),
    ]
    assert works == [row["work"] for row in numbers["rows"]]
    assert {len(row) for row in table} == {len(table[0])}
    for row in table[2:]:
        assert row[1] == "4 x 6"
        assert all(float(cell) > 0 for cell in row[2:5])
        assert float(row[5]) >= 0  # 0.0 where the machine was busy with something else
        assert row[-2:] == ["1", "cpu"]
    assert re.search(r"1 threads, PyTorch \S+, load", text)


def test_shares_of_operations():
    text = run_alone("--only", "hard", "t2i-training", script="operations.py", tiny=["--dim", "16", "--regions", "5"])
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ") and "%" in line]
    assert [row[0].strip() for row in rows] == ["hard alignment, inference", "SCAN t2i, training"]
    for row in rows:
        shares = [int(cell.strip(" %")) for cell in row[1:]]
        assert shares[0] > 0
        assert 95 <= sum(shares) <= 105


@pytest.mark.slow
def test_memory_of_an_evaluation():
    sizes = ["--images", "250", "--dim", "16", "--features", "8", "--words", "4", "--regions", "5", "--blocks", "1"]
    text = run_alone("--only", "CHAN", script="coco_memory.py", tiny=sizes)
    assert "| CHAN   | float32" in text
    assert "| CHAN   | float16" in text


def test_the_textbook_says_the_same(result):
    rows = result[1]["rows"]
    assert max(row["difference"] for row in rows) < 1e-5
    assert all(row["floor"] > 0 and row["seconds"] in row["times"] for row in rows)


def test_chosen_rows():
    text = run("--only", "t2i", "sum", "--no-textbook")
    assert "SCAN t2i, inference" in text
    assert "hard alignment, sum, inference" in text
    assert "training" not in text


def table_of(text):
    """Rows of the Markdown table, by column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_training(tmp_path):
    tiny = ["--batch", "4", "--dim", "8", "--features", "8", "--words", "6", "--regions", "5", "--repeat", "1"]
    text = run("--chunk", "2", "--json", str(tmp_path / "a"), script="training.py", tiny=tiny)
    rows = table_of(text)
    names = ["CHAN", "CMSEI", "Hire", "ReSG"]
    assert [row["system"] for row in rows] == [label for name in names for label in (name, f"{name}, 2 at a time")]
    assert all(float(row["x floor"]) > 0 for row in rows)
    assert [row["textbook ms"] == "-" for row in rows] == [False] * 6 + [True] * 2
    assert [row["work"] for row in json.loads((tmp_path / "a").read_text())["rows"]] == [row["system"] for row in rows]


def test_memory_of_a_long_training():
    text = run_alone("--soak", "4", script="training.py")
    assert re.search(r"after step 2: \d+\.\d MB; most since: \d+\.\d MB", text)


WAITS = {"VSE++": 0, "VSE-infinity": 0, "SCAN": 1, "SGR": 1, "CHAN": 1, "CMSEI": 1, "Hire": 1, "ReSG": 2}


@pytest.mark.slow
def test_waits_of_a_step(tmp_path):
    """Most ask once which pairs have a gradient, ReSG for objects and for relations; all else was known before."""
    tiny = ["--batch", "8", "--steps", "3", "--log-every", "4", "--only", *WAITS]
    text = run_alone("--json", str(tmp_path / "a"), script="waits.py", tiny=tiny)
    for row in json.loads((tmp_path / "a").read_text())["rows"]:
        assert row["most"] <= WAITS[row["work"]], row
        assert row["logged"] > row["most"]  # else nothing was counted
    assert [row["system"] for row in table_of(text)] == list(WAITS)


SECTIONS = ["precision", "tests", "waits", "scoring", "training", "loading", "ranks"]


@pytest.mark.slow
def test_gpu_without_a_gpu(tmp_path):
    files = ["--json", str(tmp_path / "a"), "--table", str(tmp_path / "b")]
    text = run_alone("--device", "cpu", "--small", *files, script="gpu.py")
    numbers = json.loads((tmp_path / "a").read_text())
    rows = {section["section"]: section["rows"] for section in numbers["rows"]}
    assert list(rows) == SECTIONS
    assert [name for name in SECTIONS if not rows[name]] == ["waits"]  # of a CPU
    assert numbers["environment"]["failures"] == []
    assert {row["batch"] for row in rows["training"]} == {4, 8}
    assert {row["work"] for row in rows["training"]} == set(WAITS)
    assert (tmp_path / "b").read_text().strip() == text.strip()


@pytest.mark.slow
def test_the_ways_of_a_gpu_give_the_same():
    text = run_alone("--device", "twin", "--small", "--only", "precision", script="gpu.py")
    rows = table_of(text)
    assert len(rows) > 30
    assert all(float(row["float32"]) < 1e-5 and float(row["float32, gradient"]) < 1e-4 for row in rows), text


def test_gpu_leaves_out_what_would_be_too_late():
    text = run_alone("--device", "cpu", "--small", "--minutes", "0", script="gpu.py")
    assert [f"{name}: left out, no time was left" in text for name in SECTIONS] == [True] * len(SECTIONS)


def test_what_fails_in_a_section_is_told_of(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    gpu = pytest.importorskip("gpu")
    options = argparse.Namespace(failures=[], stored=2, batches=(3,), regions=-1, features=2)
    assert gpu.run("loading", torch.device("cpu"), options) == []
    assert options.failures[0].startswith("loading: RuntimeError: ")
    forget()


def test_evaluation(tmp_path):
    tiny = ["--images", "30", "--matrix-images", "20", "--dim", "8", "--regions", "4", "--threads", "1"]
    text = run("--json", str(tmp_path / "a"), script="evaluation.py", tiny=tiny)
    rows = table_of(text)
    assert [row["work"] for row in rows] == [
        f"{name}, {dtype}" for name in ("cosine", "hard alignment") for dtype in ("float32", "float16")
    ]
    assert {row["images x captions"] for row in rows} == {"30 x 150"}
    assert "streamed ranks equal those of the matrix, which equal those of sorting" in text
    assert len(json.loads((tmp_path / "a").read_text())["rows"]) == 4


def test_loading(tmp_path):
    tiny = ["--images", "8", "--regions", "3", "--features", "8", "--batch", "4", "--workers", "0", "--passes", "1"]
    text = run("--json", str(tmp_path / "a"), script="loading.py", tiny=tiny)
    rows = table_of(text)
    kinds = ("plain", "augmented", "boxes and relations", "boxes and relations, augmented")
    found = [(work, place) for work in kinds for place in ("map", "memory", "device")]
    assert [(row["work"], row["features"]) for row in rows] == [("textbook", "-"), *found]
    assert all(float(row["samples/s"]) > 0 for row in rows)
    assert float(rows[0]["x textbook"]) == 1
    assert len(json.loads((tmp_path / "a").read_text())["rows"]) == 13
    assert text.count("load ") == 2


def test_extracting():
    (row,) = table_of(run_alone("--count", "3", "--processes", "1", script="extracting.py"))
    assert (row["way"], row["processes"]) == ("itmatch extract", "1")
    assert int(row["bytes a photo"]) > 36 * (2 * 16 + 24)
    assert int(row["MB a process"]) > 100


def folder_and_model(path):
    """A folder of twelve images with a caption each, and a model of them; the options that name them."""
    chan_gru(Vocabulary.build([["a", "dog"]], min_count=1), region_dim=6, embed_dim=8).save_pretrained(path / "m")
    model = MatchingModel.from_pretrained(path / "m")
    model.tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a", "dog"])
    model.save_pretrained(path / "m")
    save_array(path / "test_ims.npy", np.random.default_rng(0).standard_normal((12, 4, 6)).astype(np.float32))
    (path / "test_caps.txt").write_text("a dog\n" * 12)
    return ["--data", str(path), "--checkpoint", str(path / "m")]


def test_bounds(tmp_path):
    of_model = folder_and_model(tmp_path)
    tiny = [*of_model, "--threads", "1", "--prefixes", "2", "6", "--timed", "4", "--repeat", "1"]
    text = run_alone("--json", str(tmp_path / "a"), script="bounds.py", tiny=tiny)
    rows = table_of(text)
    assert "12 images, 12 captions" in text
    assert "; 0 others" in text
    assert [row["prefix"] for row in rows] == ["2", "6", "2 + 6"] * 4
    assert {(row["axes"], row["lengths"]) for row in rows} == {(a, n) for a in ("principal", "balanced") for n in "14"}
    for row in rows:
        assert 0 < float(row["ranks of captions"]) <= float(row["both"]) + 1e-9


def test_few_and_many_captions(tmp_path):
    tiny = ["--images", "6", "--captions", "1", "9", "--dims", "8", "16", "--regions", "4", "--repeat", "1"]
    text = run_alone("--threads", "1", "2", "--json", str(tmp_path / "a"), script="queries.py", tiny=tiny)
    rows = table_of(text)
    assert [(row["D"], row["captions"], row["threads"]) for row in rows] == [
        (d, c, t) for d in ("8", "16") for c in "19" for t in "12"
    ]
    assert all(float(row["difference"]) < 1e-5 and float(row["x plain"]) > 0 for row in rows)


def test_search(tmp_path):
    of_model = [*folder_and_model(tmp_path), "--splits", "test"]
    tiny = [
        "--images",
        "60",
        "--queries",
        "1",
        "3",
        "--regions",
        "4",
        "--dim",
        "8",
        "--axes",
        "4",
        "--model-axes",
        "4",
        "--repeat",
        "1",
    ]
    text = run(
        *of_model, "--candidates", "12", "--repeat", "1", "--json", str(tmp_path / "a"), script="search.py", tiny=tiny
    )
    first, second = (table_of(part) for part in text.rsplit("\n\n", 1))
    assert [row["queries"] for row in first] == ["1", "3"]
    assert [row["same scores"] for row in first] == ["yes", "yes"]
    assert [row["candidates"] for row in second] == ["all", "12"]
    assert [row["share of the exact top 10"] for row in second] == ["1.000", "1.000"]
    assert len(json.loads((tmp_path / "a").read_text())["rows"]) == 4


def test_the_memory_of_a_call_is_seen(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    measure = pytest.importorskip("measure")
    if not measure.STATM.exists():
        pytest.skip("the size of a process is read on Linux only")

    def work():
        torch.ones(50 << 18).sum()  # 50 MB of float32
        return "done"

    found, extra = measure.peak_extra_bytes(work, torch.device("cpu"))
    assert found == "done"
    assert 40 << 20 < extra < 80 << 20
    sys.modules.pop("measure")
