"""Every numbered example runs, made small."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from itmatch.__main__ import main

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("[0-9]*.*"))
SMALL = {
    "01_train_demo.sh": "--data.source.num_train 20 --data.source.num_val 10 --data.source.num_test 10",
    "02_own_features.sh": "",
    "04_own_block.sh": "--data.source.num_train 20 --data.source.num_val 10 --data.source.num_test 10",
    "06_photos.sh": "--data.batch_size 32",
    "05_many_processes.sh": "--trainer.devices 1 --trainer.strategy auto --data.source.num_train 20 "
    "--data.source.num_val 10 --data.source.num_test 10",
}
FEWER = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A copy of the examples, in whose folder they are started."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("results", "benchmarks", "runs"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_similarity", None)


def run_python(script, arguments, monkeypatch):
    """Run a script as a program would be, in this process, which has the libraries loaded."""
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.setattr(sys, "path", [str(script.parent.resolve()), *sys.path])
    exec(compile(script.read_text("utf-8"), str(script), "exec"), {"__name__": "__main__", "__file__": str(script)})


def test_there_are_examples():
    assert len(SCRIPTS) >= 7
    assert set(SMALL) == {name for name in SCRIPTS if name.endswith(".sh")}
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert [name for name in SCRIPTS if Path(name).stem not in page] == []
    assert [name for name in SCRIPTS if len((EXAMPLES / name).read_text("utf-8").splitlines()) > 60] == []


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.endswith(".py")])
def test_python_example(name, place, monkeypatch, capsys, caplog, recwarn):
    run_python(place / "examples" / name, ["--fast"], monkeypatch)
    printed = capsys.readouterr().out
    told = [caplog.text, *(str(one.message) for one in recwarn)]
    assert not any("weights_only" in text for text in told)  # would look like a file that is unpickled
    assert "image to text" in printed
    for found, tested in re.findall(r"by search (\S+), by test (\S+)", printed):
        assert found == tested, name


def test_example_3_reads_the_checkpoint_of_example_1(place, monkeypatch, capsys):
    run_python(place / "examples/01_train_demo.py", ["--fast"], monkeypatch)
    best = re.findall(r"^best checkpoint: (.*)$", capsys.readouterr().out, re.MULTILINE)[-1]
    run_python(place / "examples/03_use_a_model.py", [best, "--fast"], monkeypatch)
    assert "saved to" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.endswith(".sh")])
def test_shell_example(name, place, monkeypatch, capsys):
    """The script itself runs, with programs that write down what they are called with; then that is done here."""
    calls = record(place, name, [*shlex.split(SMALL[name]), *FEWER])
    assert any(words[:2] == ["itmatch", "fit"] for _, words in calls)
    for folder, (program, *arguments) in calls:
        monkeypatch.chdir(folder)
        if program == "python":
            run_python(Path(arguments[0]), arguments[1:], monkeypatch)
        else:
            assert main(arguments) == 0, shlex.join(arguments)
    assert "image to text" in capsys.readouterr().out


def test_several_machines(place):
    """What the example starts with torchrun, and under SLURM."""
    name = "05_many_processes.sh"
    nodes = {"NODES": "2", "HEAD": "host0:29500", "PROCESSES": "4"}
    ((_, words),) = record(place, name, ["--trainer.max_epochs", "1"], nodes)
    assert words[0] == "torchrun"
    pairs = dict(zip(words[1::2], words[2::2], strict=False))
    expected = {"--nnodes": "2", "--rdzv-endpoint": "host0:29500", "--nproc-per-node": "4"}
    assert expected.items() <= pairs.items()
    assert words[words.index("-m") : words.index("-m") + 3] == ["-m", "itmatch", "fit"]
    assert " ".join(words).endswith("--trainer.num_nodes 2 --trainer.devices 4 --trainer.max_epochs 1")
    slurm = {"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    ((_, words),) = record(place, name, [], slurm)
    assert words[:3] == ["srun", "itmatch", "fit"]
    assert " ".join(words).endswith("--trainer.strategy ddp --trainer.num_nodes 2 --trainer.devices 4")


def record(place, name, arguments, variables=None):
    """The folder and the words of every call of a program in a shell script."""
    programs, log = place / "programs", place / "calls"
    programs.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    for program in ("itmatch", "python", "torchrun", "srun"):
        text = f'#!/usr/bin/env bash\nprintf "%s\\n" "$PWD" {program} "$@" "" >> {shlex.quote(str(log))}\n'
        (programs / program).write_text(text, "utf-8")
        (programs / program).chmod(0o755)
    # `fit`, which would make it, is not really run
    (place / "runs/toy/lightning_logs/version_0").mkdir(parents=True, exist_ok=True)
    (place / "examples/runs/photos/lightning_logs/version_0").mkdir(parents=True, exist_ok=True)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", f"examples/{name}", *arguments],
        cwd=place,
        check=True,
        env={**os.environ, **(variables or {}), "PATH": path},
        timeout=60,
    )
    shutil.rmtree(place / "runs")
    shutil.rmtree(place / "examples/runs")
    entries = [entry.split("\n") for entry in log.read_text("utf-8").split("\n\n") if entry]
    return [(folder, words) for folder, *words in entries]
