"""The processes of one run: none is left behind, one that fails ends the others, and one line says why."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from itmatch.ops.collectives import is_connection_error, leave_processes
from itmatch.stopping import Stopped, say, stop_main_thread, take_signals_back

Others = Sequence["subprocess.Popen[bytes]"]

_LOOK, _GRACE = 0.25, 2.0  # seconds: between two looks at the other processes; from SIGTERM to SIGKILL
_LONGEST = 5.0  # seconds that the main thread, or news of another process, is waited for


class Processes:
    """What a run is made in; it sees to the processes that Lightning starts for the run.

    The first process waits for the others when the run went well, and ends them when it did not; when one of them
    fails, it ends too. The others are slow to speak of an error: the first one may have the same, and then ends them
    before they speak. One line is enough.
    """

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self._over = threading.Event()

    def __enter__(self) -> Processes:
        return self

    def follow(self, trainer: Trainer) -> None:
        """See to the processes that this trainer will start, or to the one that has started this one."""
        self.trainer = trainer
        if hasattr(trainer.strategy.launcher, "procs") or _number() != 0:
            threading.Thread(target=self._watch, name="itmatch-processes", daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                leave_processes()  # before waiting: with NCCL, all processes do so together
                for process in self._others():
                    process.wait()
                if any(process.returncode for process in self._others()):
                    time.sleep(_LONGEST)  # until the thread, which has seen it too, ends this
            elif is_connection_error(error):
                time.sleep(_LONGEST)  # the same: it is the other process that failed
            elif _number() != 0 and isinstance(error, Exception):
                time.sleep(min(0.5 + _number(), _LONGEST))
        finally:
            self._over.set()
            _end(self._others())
        if isinstance(error, SIGTERMException):  # of Lightning, which would end with exit status 0
            raise Stopped("stopped by SIGTERM", 128 + signal.SIGTERM) from error

    def _others(self) -> Others:
        launcher = None if self.trainer is None else self.trainer.strategy.launcher
        return list(getattr(launcher, "procs", []))

    def _watch(self) -> None:
        parent = os.getppid()
        while not self._over.wait(_LOOK):
            others = self._others()
            if others:
                _silence_lightnings_observer()
            ended = [(number, code) for number, process in enumerate(others, 1) if (code := process.poll())]
            if ended:
                return self._stop(_reason(*ended[0]), others)
            if _number() != 0 and os.getppid() != parent:
                say(f"itmatch: error: process {_number()}: the process that has started it is gone")
                return self._stop(Stopped(None, 1), others)
        return None

    def _stop(self, reason: Stopped, others: Others) -> None:
        """End this process, and others; by an exception in the main thread, and by force where none gets through."""
        _end(others)
        if not self._over.is_set():
            stop_main_thread(reason)
        if not self._over.wait(_LONGEST):
            if reason.message is not None:
                say(f"itmatch: {reason.message}")
            os._exit(reason.status)


class OwnSignals(Callback):
    """Keeps Lightning from handling SIGTERM: on several processes it would wait for all of them to take notice."""

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back, in all that may come first after Lightning has taken them."""
        take_signals_back()

    on_train_start = on_validation_start = on_test_start = on_predict_start = on_sanity_check_start


_TROUBLE = (  # what torch says, and what it means
    (
        r"DataLoader worker.*?(killed by signal: \w+|exited unexpectedly)",
        r"a process that loads data is gone (\1); it may have been out of memory: take a smaller data.num_workers",
    ),
    (
        r"Too many open files|items of ancdata",
        "too few file handles: raise the limit (ulimit -n), or take a smaller data.num_workers",
    ),
    (
        r"EADDRINUSE|ddress already in use",
        "the port by which the processes talk is in use; set MASTER_PORT to a free one, or leave it out",
    ),
    (r"can't allocate memory: you tried to allocate (\d+) bytes", r"out of memory: \1 bytes could not be had"),
    (
        r"out of shared memory|unable to (?:open|mmap|resize).*shared memory|unable to write to file </torch_",
        "too little shared memory (/dev/shm) for the processes that load data: take a smaller data.num_workers",
    ),
)


def trouble(error: BaseException) -> str | None:
    """What is wrong with the machine, or the other processes, in one line; None for errors of another kind."""
    for pattern, meaning in _TROUBLE:
        found = re.search(pattern, str(error), re.DOTALL)
        if found is not None:
            return found.expand(meaning)
    return "the connection to another process was lost" if is_connection_error(error) else None


def _number() -> int:
    """Which of the processes on this machine this is."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _reason(number: int, code: int) -> Stopped:
    """What follows from the end of another process."""
    name = signal.Signals(code - 128 if code > 128 else abs(code)).name if code > 128 or code < 0 else ""
    if name in ("SIGTERM", "SIGINT", "SIGHUP"):
        return Stopped(f"stopped by {name}", 128 + signal.Signals[name])
    if name:
        hint = "; it may have been out of memory" if name == "SIGKILL" else ""
        return Stopped(f"error: process {number} was killed by {name}{hint}", 1)
    return Stopped(None, code)  # it has said why


def _end(others: Others) -> None:
    for process in others:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in others:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _silence_lightnings_observer() -> None:
    """It would kill this process by SIGKILL up to five seconds after another has failed, and no line would be said."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
