"""Bad data, a killed process, a full disk, a folder that cannot be written: what the user sees, and what is left."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import DEMO, error_of, on_precomp, run, write_precomp
from helpers_files import files_in, small_files, umask
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from itmatch.training import MatchingTask, read_fragments
from itmatch.training.checkpoints.writing import AtomicCheckpointIO
from itmatch.training.output.report import run_folder

RUN = Path("runs/lightning_logs")


pytestmark = pytest.mark.usefixtures("elsewhere")


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1"}


# ------------------------------------------------------------------------------------------------------------- data


def fit_on(folder, *args):
    return on_precomp("fit", folder, *args)


def change(split, function):
    def apply(folder):
        path = folder / f"{split}_ims.npy"
        np.save(path, function(np.load(path)))

    return apply


def cut(folder):
    path = folder / "train_ims.npy"
    path.write_bytes(path.read_bytes()[:-20])


def pickled(folder):
    np.save(folder / "train_ims.npy", np.array([{}, {}], dtype=object), allow_pickle=True)


def no_array(folder):
    (folder / "train_ims.npy").write_text("features")


def with_nan(array):
    array[2, 1, 0] = np.nan
    return array


def lines(name, function):
    def apply(folder):
        path = folder / name
        path.write_text("".join(function(path.read_text().splitlines(keepends=True) if path.exists() else [])))

    return apply


BROKEN = {
    "missing features": (lambda f: (f / "train_ims.npy").unlink(), "train_ims.npy: no such file.*dev, test"),
    "missing captions": (lambda f: (f / "train_caps.txt").unlink(), "train_caps.txt.*[Nn]o such file"),
    "missing split": (lambda f: (f / "dev_ims.npy").unlink(), "dev_ims.npy: no such file"),
    "wrong shape": (change("train", lambda a: a[0, 0]), r"train_ims.npy.*\(6,\)"),
    "wrong type": (change("train", lambda a: a.astype(np.int64)), "train_ims.npy.*int64.*float"),
    "cut short": (cut, "train_ims.npy"),
    "pickled": (pickled, "train_ims.npy.*(object|pickle)"),
    "no array": (no_array, "train_ims.npy"),
    "NaN": (change("train", with_nan), "data/train: image '2' region 1: NaN"),
    "NaN in validation": (change("dev", with_nan), "data/dev: image '2' region 1: NaN"),
    "no multiple": (lines("train_caps.txt", lambda t: t[:-1]), "train.*7.*4"),
    "ids that do not match": (lines("train_ids.txt", lambda _: ["a\n", "b\n", "c\n"]), "train.*3"),
    "ids twice": (lines("train_ids.txt", lambda _: ["a\n", "b\n", "c\n", "a\n"]), "train_ids.txt"),
    "blank captions": (
        lines("train_caps.txt", lambda t: [*t[:2], " \n", " \n", *t[4:]]),
        "train_caps.txt: image '1' has blank",
    ),
    "other features in validation": (change("dev", lambda a: a[..., :5]), "5"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_data_is_told_in_one_line_with_the_file(name, tmp_path, capsys):
    folder = write_precomp(tmp_path / "data")
    damage, expected = BROKEN[name]
    damage(folder)
    message = error_of(capsys, *fit_on(folder))
    assert re.search(expected, message), message


def test_a_missing_folder(capsys):
    assert (
        error_of(capsys, *fit_on("nowhere"))
        == "nowhere: no such folder; --data.source.root FOLDER says where the data are"
    )


def test_an_error_in_a_loading_process_is_one_line_too(tmp_path, capsys):
    folder = write_precomp(tmp_path / "data")
    change("train", with_nan)(folder)
    message = error_of(capsys, *fit_on(folder, "--data.num_workers=1"))
    assert "data/train: image '2' region 1: NaN" in message
    assert "Traceback" not in message


def test_a_missing_vocabulary_file(tmp_path, capsys):
    folder = write_precomp(tmp_path / "data")
    assert "none.json" in error_of(capsys, *fit_on(folder, "--data.tokenizer.vocabulary=none.json"))


# -------------------------------------------------------------------------------------------------------- checkpoints


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_the_last_checkpoint_is_of_the_last_epoch(monkeypatch):
    recalls = iter([3.0, 2.0, 1.0, 0.0])  # ever worse
    monkeypatch.setattr("itmatch.evaluation.evaluator.Evaluator.compute", lambda *_, **options: {"rsum": next(recalls)})
    assert run("fit", *DEMO, "--trainer.max_epochs=3", "--test_after_fit=false") == 0
    epochs = {path.name: torch.load(path, weights_only=True)["epoch"] for path in RUN.rglob("*.ckpt")}
    assert epochs == {"best.ckpt": 0, "last.ckpt": 2}


def test_a_killed_run_resumes_to_the_weights_of_one_that_was_not_killed(tmp_path):
    slow = """
import os, time
from pathlib import Path
from lightning.pytorch import Callback


class Waiting(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.current_epoch == 2 and batch_idx == 1:
            Path("in_mid_epoch").touch()
            time.sleep(120)
"""
    Path("waiting.py").write_text(slow)
    flags = [*DEMO, "--data.batch_size=8", "--trainer.max_epochs=4", "--model.image_encoder.init_args.dropout=0.1"]
    assert run("fit", *flags) == 0
    whole = RUN / "version_0"
    command = [sys.executable, "-m", "itmatch", "fit", *flags, "--trainer.callbacks=waiting.Waiting"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 100
        while not Path("in_mid_epoch").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = RUN / "version_1"
    last = killed / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    assert not list(killed.rglob("*.part"))
    assert run("fit", *flags, "--ckpt_path", last) == 0
    resumed = RUN / "version_2"
    ours, theirs = weights(whole / "checkpoints/last.ckpt"), weights(resumed / "checkpoints/last.ckpt")
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert (whole / "test_metrics.json").read_text() == (resumed / "test_metrics.json").read_text()


class Full:
    """A disk that is full from the n-th checkpoint on: half of the bytes arrive."""

    def __init__(self, monkeypatch, after):
        self.left = after
        save = torch.save

        def failing(content, file):
            if self.left == 0:
                file.write(b"half a checkpoint")
                raise OSError(28, "No space left on device")
            self.left -= 1
            save(content, file)

        monkeypatch.setattr("itmatch.training.checkpoints.writing.torch.save", failing)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_full_disk_leaves_the_earlier_checkpoints(after, monkeypatch, capsys):
    Full(monkeypatch, after)
    message = error_of(capsys, "fit", *DEMO, "--trainer.max_epochs=3")
    assert message.startswith("runs/lightning_logs/version_0/checkpoints/")
    assert "cannot be written (No space left on device)" in message
    folder = RUN / "version_0/checkpoints"
    assert {path.name for path in folder.iterdir()} <= {"best.ckpt", "last.ckpt"}  # hidden files too
    assert list(folder.iterdir())
    for path in folder.iterdir():
        MatchingTask.load_from_checkpoint(path)


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
from itmatch.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_takes_no_more(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "fit", *DEMO], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "runs/lightning_logs/version_0/checkpoints/best.ckpt: cannot be written (File too large)" in done.stderr
    assert not list((RUN / "version_0/checkpoints").iterdir())


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """The checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("best")
    assert run("fit", *DEMO, f"--checkpoint.dirpath={folder}", "--trainer.logger=false") == 0
    return folder / "best.ckpt"


def predict(best, *args):
    return "predict", *DEMO, f"--ckpt_path={best}", "--trainer.logger=false", *args


def test_a_configuration_on_a_full_disk(capsys):
    with small_files(1000):
        message = error_of(capsys, "fit", *DEMO)
    assert message == "runs/lightning_logs/version_0/config.yaml: cannot be written (File too large)"
    assert "config.yaml" not in files_in(RUN / "version_0")


def test_a_prediction_on_a_full_disk_leaves_both_earlier_files(best, capsys):
    assert run(*predict(best, "--fragments.dirpath=out")) == 0
    again = ("--fragments.dirpath=out", "--fragments.overwrite=true", "--data.source.init_args.seed=1")
    before = files_in(Path("out"))
    images, captions = (len(before[f"{name}.safetensors"]) for name in ("images", "captions"))
    assert images < captions  # so the first file can be written
    with small_files((images + captions) // 2):
        message = error_of(capsys, *predict(best, *again))
    assert message == "out/captions.safetensors: cannot be written (File too large)"
    assert files_in(Path("out")) == before
    assert run(*predict(best, *again)) == 0
    assert set(files_in(Path("out"))) == set(before)
    assert files_in(Path("out")) != before


def test_a_report_on_a_full_disk_leaves_both_earlier_files(best, monkeypatch, capsys):
    test = ["test", *DEMO, f"--ckpt_path={best}", "--trainer.logger=false", "--report.dirpath=out"]
    assert run(*test) == 0
    before = files_in(Path("out"))
    metrics, ranks = (len(before[f"test_{name}"]) for name in ("metrics.json", "ranks.npz"))
    assert metrics < ranks  # so the first file can be written
    other = [*test, "--data.source.init_args.seed=1"]
    with small_files((metrics + ranks) // 2):
        assert error_of(capsys, *other) == "out/test_ranks.npz: cannot be written (File too large)"
    assert files_in(Path("out")) == before

    def full(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("itmatch.training.output.report.write_text", full)
    folds = ["--protocol=Coco1K", "--protocol.num_images=4", "--protocol.folds=2"]  # have no ranks to write
    assert error_of(capsys, *other, *folds) == "the disk is full"
    assert files_in(Path("out")) == before


def test_what_a_run_writes_has_the_permissions_of_the_umask(best):
    with umask(0o027):
        assert run("fit", *DEMO) == 0
        assert run(*predict(best, "--fragments.dirpath=out")) == 0
        MatchingTask.load_from_checkpoint(best).model.save_pretrained("model")
    written = [path for folder in (RUN, Path("out"), Path("model")) for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".ckpt", ".yaml", ".json", ".npz", ".safetensors", ".md"}
    assert {oct(path.stat().st_mode & 0o777) for path in written} == {oct(0o640)}


def test_the_home_folder_in_what_is_written_and_compared(best, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(*predict(best, "--fragments.dirpath=~/out")) == 0
    test = ["test", *DEMO, f"--ckpt_path={best}", "--trainer.logger=false"]
    assert run(*test, "--report.dirpath=~/report") == 0
    assert run("compare", "~/report", "~/report/test_metrics.json") == 0
    assert "95 % interval" in capsys.readouterr().out
    assert read_fragments("~/out/images.safetensors")[2][0] == "test-00000a"
    assert set(files_in(tmp_path / "home")) == {
        "out/images.safetensors", "out/captions.safetensors", "report/test_metrics.json", "report/test_ranks.npz",
    }  # fmt: skip
    assert run("fit", *DEMO, "--trainer.logger.save_dir=~/runs") == 0
    run_files = {Path(name).parts[-1] for name in files_in(tmp_path / "home/runs")}
    assert run_files >= {"config.yaml", "metrics.csv", "best.ckpt", "test_metrics.json"}
    assert not Path("~").exists()


def test_a_report_lies_where_the_logger_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    trainer = Trainer(logger=CSVLogger("~"), enable_checkpointing=False, accelerator="cpu")
    assert run_folder(trainer) == str(tmp_path / "~/lightning_logs/version_0")


def test_a_folder_that_cannot_be_written(capsys):
    Path("file").write_text("")  # root may write anywhere, but not below a file
    assert "file" in error_of(capsys, "fit", *DEMO, "--trainer.logger.save_dir=file")
    message = error_of(capsys, "fit", *DEMO, "--checkpoint.dirpath=file/checkpoints")
    assert "file/checkpoints" in message
    message = error_of(capsys, "fit", *DEMO, "--report.dirpath=file/report")
    assert "file/report/test_metrics.json: cannot be written (Not a directory)" in message


def test_a_prediction_that_cannot_be_written(capsys):
    assert run("fit", *DEMO) == 0
    Path("file").write_text("")
    checkpoint = f"--ckpt_path={RUN / 'version_0/checkpoints/best.ckpt'}"
    message = error_of(capsys, "predict", *DEMO, checkpoint, "--fragments.dirpath=file/out")
    assert "file/out/images.safetensors: cannot be written" in message


def test_an_error_of_another_kind_is_not_hidden(tmp_path):
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"a": lambda: 0}, tmp_path / "a.ckpt")  # cannot be pickled
    assert not list(tmp_path.iterdir())
