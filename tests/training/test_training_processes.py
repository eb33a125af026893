"""The processes of a run: small programs in the place of those that Lightning starts."""

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from itmatch.ops.collectives import is_connection_error
from itmatch.stopping import Stopped, signals_raise
from itmatch.training import processes as module
from itmatch.training.processes import Processes, trouble

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def others():
    """Starts programs, and gives a trainer whose launcher has them."""
    launcher = SimpleNamespace(procs=[])

    def start(*programs):
        for program in programs:
            process = subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE)
            launcher.procs.append(process)
        return SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield start
    for number, handler in before.items():
        signal.signal(number, handler)
    for process in launcher.procs:
        process.kill()
        process.communicate()


def codes(trainer):
    return [process.poll() for process in trainer.strategy.launcher.procs]


def follow(trainer, body=lambda: None):
    """Run ``body`` as a run that has these other processes."""
    with signals_raise(), Processes() as run:
        run.follow(trainer)
        body()


def test_a_run_that_went_well_waits_for_the_others(others):
    trainer = others("import time; time.sleep(0.3)", "pass")
    follow(trainer)
    assert codes(trainer) == [0, 0]


@pytest.mark.parametrize("body", [lambda: time.sleep(60), lambda: None])  # while it works; when it is ready
def test_one_that_fails_ends_the_others_within_seconds(body, others):
    trainer = others("import time; time.sleep(60)", "import sys, time; time.sleep(0.2); sys.exit(1)")
    start = time.monotonic()
    with pytest.raises(Stopped) as caught:
        follow(trainer, body)
    assert time.monotonic() - start < 5
    assert (caught.value.message, caught.value.status) == (None, 1)  # it has said why
    assert codes(trainer) == [-signal.SIGTERM, 1]


@pytest.mark.parametrize(
    ("program", "message", "status"),
    [
        ("import os; os.kill(os.getpid(), 9)", "error: process 1 was killed by SIGKILL; .* out of memory", 1),
        ("import os; os.kill(os.getpid(), 15)", "stopped by SIGTERM", 143),
        ("import sys; sys.exit(143)", "stopped by SIGTERM", 143),
        ("import sys; sys.exit(130)", "stopped by SIGINT", 130),
    ],
)
def test_one_that_did_not_say_why_it_ended_is_spoken_for(program, message, status, others):
    with pytest.raises(Stopped, match=message) as caught:
        follow(others(program), lambda: time.sleep(60))
    assert caught.value.status == status


def test_an_error_of_this_process_ends_the_others_even_if_they_are_deaf(others, monkeypatch):
    monkeypatch.setattr(module, "_GRACE", 0.2)
    trainer = others(DEAF)
    trainer.strategy.launcher.procs[0].stdout.readline()

    def fails():
        raise ValueError("made to fail")

    with pytest.raises(ValueError, match="made to fail"):
        follow(trainer, fails)
    trainer.strategy.launcher.procs[0].wait(5)
    assert codes(trainer) == [-signal.SIGKILL]


def test_a_lost_connection_is_the_error_of_the_one_that_failed(others):
    def loses():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3029")

    with pytest.raises(Stopped) as caught:
        follow(others("import sys, time; time.sleep(0.5); sys.exit(1)"), loses)
    assert (caught.value.message, caught.value.status) == (None, 1)


@pytest.mark.slow
def test_a_main_thread_that_hangs_is_ended(tmp_path):
    """No exception gets into a call that does not return; here one that catches everything."""
    program = """
import subprocess, sys, time
from types import SimpleNamespace
from itmatch.stopping import signals_raise
from itmatch.training import processes
processes._LONGEST = 0.3
other = subprocess.Popen([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"])
trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[other])))
with signals_raise(), processes.Processes() as run:
    run.follow(trainer)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert done.stderr == "itmatch: error: process 1 was killed by SIGKILL; it may have been out of memory\n"


def test_another_process_is_slow_to_speak_of_an_error(others, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")

    def fails():
        raise ValueError("made to fail")

    start = time.monotonic()
    with pytest.raises(ValueError, match="made to fail"):
        follow(others(), fails)
    assert 1.4 < time.monotonic() - start < 4


TROUBLE = {
    "worker killed": (
        RuntimeError("DataLoader worker (pid 24943) is killed by signal: Killed. "),
        r"a process that loads data is gone \(killed by signal: Killed\); .* smaller data.num_workers",
    ),
    "worker gone": (RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"), "exited unexpectedly"),
    "handles": (OSError(24, "Too many open files"), "too few file handles: raise the limit"),
    "handles of torch": (RuntimeError("received 0 items of ancdata"), "too few file handles"),
    "port": (
        dist.DistNetworkError("The server socket has failed to listen on any local network address. port: 29500, "
        "useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"),
        "port by which the processes talk is in use; set MASTER_PORT",
    ),
    "memory": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes. Error code 12"),
        "out of memory: 80 bytes",
    ),
    "shared memory": (
        RuntimeError("unable to write to file </torch_7_1>: No space left on device (28)"), "too little shared memory"
    ),
    "gloo": (RuntimeError("[gloo/transport] Connection closed by peer"), "connection to another process was lost"),
    "store": (dist.DistStoreError("wait timeout after 600000ms"), "connection to another process was lost"),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLE)
def test_what_is_wrong_with_the_machine_is_said_in_one_line(name):
    error, expected = TROUBLE[name]
    found = trouble(error)
    assert found is not None
    assert module.re.search(expected, found), found
    assert "\n" not in found


def test_other_errors_are_not_explained():
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("gloo"), KeyError("a")):
        assert trouble(error) is None
        assert not is_connection_error(error)
