"""Being told to stop: signals become an exception, so that files are left whole and one line says what happened."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
CLOSED_OUTPUT = 128 + 13  # the status of a program that SIGPIPE ends


class Stopped(BaseException):
    """The program has to end: a signal came, or another process of the run has failed.

    Not an ``Exception``, and not a KeyboardInterrupt either: Lightning answers that one with exit status 1, and with
    deafness to a second Ctrl-C.

    Args:
        message: one line for the user; None = it has been said already.
        status: exit status of the program.
    """

    def __init__(self, message: str | None, status: int) -> None:
        super().__init__(message, status)
        self.message, self.status = message, status


class _Handler:
    """What signals call. The first one raises :class:`Stopped`; one more ends the process at once."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.process = os.getpid()
        self.stopping = False
        self.reason: Stopped | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        reason, self.reason = self.reason, None
        if os.getpid() != self.process:  # a process that loads data, forked from this one
            if number == signal.SIGINT:
                raise KeyboardInterrupt  # which its loop expects; the main process tells of it
            os._exit(128 + number)
        if self.stopping:
            if reason is None:
                os._exit(128 + number)
            return
        self.stopping = True
        raise reason or Stopped(f"stopped by {signal.Signals(number).name}", 128 + number)


_handler: _Handler | None = None


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP raise :class:`Stopped`; those that are ignored (``nohup``) stay ignored.

    After a signal they stay as they are, so that one more ends the process at once while Python is still leaving.
    """
    global _handler
    if threading.current_thread() is not threading.main_thread():  # only that one may
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number in _SIGNALS if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    outer, _handler = _handler, _Handler(ours)
    take_signals_back()
    try:
        yield
    finally:
        left = [] if _handler.stopping else ours
        _handler = outer
        for number in left:
            signal.signal(number, before[number])


def take_signals_back() -> None:
    """Undo what others have put in the place of our handling, or in front of it."""
    if _handler is not None:
        for number in _handler.numbers:
            signal.signal(number, _handler)


def stop_main_thread(reason: Stopped) -> None:
    """Raise an exception in the main thread, from another one; nothing without :func:`signals_raise`."""
    if _handler is not None and signal.SIGTERM in _handler.numbers:
        _handler.reason = reason
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # wakes it up if it waits


def say(line: str) -> None:
    """Write a line to stderr, if somebody still reads it."""
    with suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)


def is_closed(stream: TextIO | None) -> bool:
    """Whether the reader of a pipe, such as ``head``, has gone."""
    try:
        poll = select.poll()
        poll.register(stream.fileno() if stream else -1, select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):  # no file, or a system without poll
        return False


def finish_output() -> int:
    """Write what is still in the buffer of stdout; returns an exit status, 0 if that went well.

    Python would do so after everything else, and fail with a traceback where nobody reads or the disk is full.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave_stdout()
        return CLOSED_OUTPUT
    except (OSError, ValueError) as error:
        say(f"itmatch: error: standard output cannot be written ({getattr(error, 'strerror', None) or error})")
        _leave_stdout()
        return 1
    return 0


def _leave_stdout() -> None:
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
