"""Signals and pipes: what a run that is told to stop leaves, what it says, and with which exit status it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers_cli import DEMO, run
from lightning.pytorch import Callback

from itmatch.stopping import Stopped, finish_output, is_closed, signals_raise, take_signals_back

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
LAST = "runs/lightning_logs/version_0/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def handlers(elsewhere):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and so is this under nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Kill(Callback):
    """Sends this process a signal at some place of a run."""

    def __init__(self, where: str, number: int) -> None:
        self.where, self.number = where, number

    def _at(self, place):
        if place == self.where:
            os.kill(os.getpid(), self.number)
            time.sleep(30)  # the signal ends it

    def setup(self, trainer, *_, **__):
        self._at("setup")

    def on_train_batch_end(self, *_):
        if self.where == "nowhere":  # who handles signals?
            print(type(signal.getsignal(self.number)).__name__, file=sys.stderr)

    def on_train_batch_start(self, trainer, *_):
        self._at(f"epoch {trainer.current_epoch}")

    def on_validation_batch_start(self, trainer, *_, **__):
        self._at(trainer.state.fn.value)

    def on_test_batch_start(self, *_, **__):
        self._at("test")


def stopped(capsys, command, where, number, *args):
    """Exit status and stderr of a command that gets a signal."""
    place = [f"--trainer.callbacks={__name__}.Kill", f"--trainer.callbacks.where={where}"]
    capsys.readouterr()
    status = run(command, *DEMO, *place, f"--trainer.callbacks.number={int(number)}", *args)
    return status, capsys.readouterr().err


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_is_stopped_names_its_last_checkpoint(number, capsys):
    status, err = stopped(capsys, "fit", "epoch 1", number, "--trainer.max_epochs=3")
    assert status == 128 + number
    assert err == f"itmatch: stopped by {number.name}; --ckpt_path {LAST} goes on from there\n"
    assert torch.load(LAST, weights_only=True)["epoch"] == 0
    assert Path(LAST).parents[1].joinpath("metrics.csv").exists()  # what was logged is not lost


@pytest.mark.parametrize("where", ["setup", "epoch 0", "fit"])  # the first validation is called fit, too
def test_a_run_that_has_written_nothing_says_so(where, capsys):
    status, err = stopped(capsys, "fit", where, signal.SIGTERM, "--trainer.num_sanity_val_steps=0")
    assert (status, err) == (143, "itmatch: stopped by SIGTERM; no last.ckpt was written\n")


def test_the_closing_test_does_not_forget_the_checkpoint(capsys):
    status, err = stopped(capsys, "fit", "test", signal.SIGTERM)
    assert (status, err) == (143, f"itmatch: stopped by SIGTERM; --ckpt_path {LAST} goes on from there\n")


@pytest.mark.parametrize(("command", "where"), [("test", "test"), ("validate", "validate")])
def test_other_commands_are_stopped_in_one_line(command, where, capsys):
    status, err = stopped(capsys, command, where, signal.SIGINT)
    assert status == 130
    assert err.splitlines()[-1] == "itmatch: stopped by SIGINT"


def test_a_run_with_loading_processes(capsys):
    status, err = stopped(capsys, "fit", "epoch 0", signal.SIGINT, "--data.num_workers=2")
    assert (status, err) == (130, "itmatch: stopped by SIGINT; no last.ckpt was written\n")


def test_what_lightning_puts_in_front_is_taken_back():
    def body():
        signal.signal(signal.SIGTERM, lambda *_: None)
        take_signals_back()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    with pytest.raises(Stopped, match="stopped by SIGTERM"), signals_raise():
        body()


def test_a_training_handles_sigterm_itself(capsys):
    """Lightning's handler waits for all processes to take notice, which one that waits for another never does."""
    status, err = stopped(capsys, "fit", "nowhere", signal.SIGTERM)
    assert (status, set(err.splitlines())) == (0, {"_Handler"})


def test_signals_are_given_back_and_ignored_ones_left_alone():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with signals_raise():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_has_no_signals():
    found = []
    thread = threading.Thread(target=lambda: found.append(run("--version")))
    thread.start()
    thread.join()
    assert found == [0]


PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from itmatch import __main__ as program
def call(args, **_):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("leaving", flush=True)
        if args:
            time.sleep(60)
program._call = call
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("arguments", "numbers", "status", "err"),
    [
        ([], [signal.SIGTERM], 143, "itmatch: stopped by SIGTERM\n"),
        (["slow"], [signal.SIGINT, signal.SIGINT], 130, ""),
        (["slow"], [signal.SIGTERM, signal.SIGINT], 130, ""),
    ],
)
def test_a_second_signal_ends_at_once(arguments, numbers, status, err):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    start = time.monotonic()
    for line, number in zip(["ready\n", "leaving\n"], numbers, strict=False):
        assert process.stdout.readline() == line
        process.send_signal(number)
    assert process.communicate(timeout=30)[1] == err
    assert process.returncode == status
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("arguments", [["presets"], ["presets", "demo"], ["--help"]])
def test_a_reader_that_has_gone_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)  # what `head` does once it has enough
    done = subprocess.run([sys.executable, "-m", "itmatch", *arguments], stdout=write, stderr=-1, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_output_that_cannot_be_written_is_an_error():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "itmatch", "--version"]
        done = subprocess.run(command, stdout=full, stderr=-1, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == "itmatch: error: standard output cannot be written (No space left on device)\n"


def test_streams_that_are_no_pipes(monkeypatch, tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert not is_closed(file)
    assert not is_closed(None)
    monkeypatch.setattr(sys, "stdout", None)  # a program without a terminal
    assert finish_output() == 0
