"""The benchmarks run, made tiny, and their textbook versions say the same as the library. No time is asserted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"
TINY = ["--images", "4", "--captions", "6", "--dim", "16", "--regions", "5", "--threads", "1", "--repeat", "1"]


def run(*arguments):
    command = [sys.executable, str(FOLDER / "scoring.py"), *TINY, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment).stdout


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks") / "scoring.json"
    return run("--json", str(path)), json.loads(path.read_text("utf-8"))


def test_the_table_has_every_row(result):
    text, numbers = result
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    works = [row[0] for row in table[2:]]
    wanted = ["hard alignment", "SCAN t2i", "SCAN i2t", "CMSEI / Hire"]
    assert works[:10] == [
        *(f"{name}, inference" for name in [*wanted, "CMSEI / Hire, all parts"]),
        "hard alignment, backward",
        *(f"{name}, training" for name in wanted),
    ]
    assert works == [row["work"] for row in numbers["rows"]]
    assert {len(row) for row in table} == {len(table[0])}
    for row in table[2:]:
        assert row[1] == "4 x 6"
        assert all(float(cell) > 0 for cell in row[2:6])
        assert row[-2:] == ["1", "cpu"]
    assert re.search(r"1 threads, PyTorch \S+, load", text)


def test_the_textbook_says_the_same(result):
    rows = result[1]["rows"]
    assert max(row["difference"] for row in rows) < 1e-5
    assert all(row["floor"] > 0 and row["seconds"] in row["times"] for row in rows)


def test_chosen_rows():
    text = run("--only", "t2i", "sum", "--no-textbook")
    assert "SCAN t2i, inference" in text
    assert "hard alignment, sum, inference" in text
    assert "training" not in text


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
