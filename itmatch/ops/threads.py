"""Threads that own pieces of work: each computes alone, and they meet once, at the end.

With the threads of PyTorch every operator is shared out, and its threads wait for each other when it ends. Small
operators then spend much of their time waiting, the more so on a machine on which something else has one of the cores.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch.overrides import _get_current_function_mode
from torch.utils._python_dispatch import _get_current_dispatch_mode

_T = TypeVar("_T")

_PROCESS = os.getpid()
_SOFT = 1  # omp_pause_soft: settings are kept
_WORTH_THREADS = 1e8  # multiplications, some milliseconds
_KEPT = 28 << 20  # bytes; what is larger than 32 MiB changes nothing


def each(work: Callable[[_T], None], items: Iterable[_T], device: torch.device, operations: float) -> None:
    """Call ``work`` on every item, in as many threads as PyTorch takes on a CPU; elsewhere one after the other.

    A thread takes the next item when it is done with one. What holds for the caller holds in the threads: whether there
    are gradients, and ``torch.inference_mode``. Where something watches the operators of the caller's own thread (a
    mode of ``torch.overrides`` or of dispatch, a profiler), all is done there.

    Args:
        work: on a CPU it is called from several threads at a time.
        items: taken one at a time, never by two threads at once.
        device: where the work is done.
        operations: multiplications of all of it; few are not worth starting threads.

    Raises:
        Exception: what a call raised; no further item is begun then.
    """
    threads = torch.get_num_threads()
    worth = device.type == "cpu" and operations >= _WORTH_THREADS and _threads_can_be_told()
    if worth:
        _keep_memory()
    if threads == 1 or not worth:
        for item in items:
            work(item)
        return
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    remaining, lock, stop = iter(items), threading.Lock(), threading.Event()

    def run() -> None:
        torch.get_num_threads()  # a new thread takes the number of the process when it is first asked, so ask before
        torch.set_num_threads(1)
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            while not stop.is_set():
                with lock:
                    item = next(remaining, stop)
                if item is stop:
                    return
                work(item)  # type: ignore[arg-type]

    _rest()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="itmatch")
    try:
        found = [pool.submit(run) for _ in range(threads)]
        for future in found:
            future.add_done_callback(lambda done: stop.set() if done.exception() else None)
        for future in found:
            future.result()
    finally:
        stop.set()
        pool.shutdown()  # no thread sets its number later than this one
        torch.set_num_threads(threads)  # of threads that are new from now on


class InOrder:
    """Calls a function with what threads bring, one after the other and in the order of their numbers.

    So a sum of what many threads computed is the same, bit by bit, whoever was done first.

    Args:
        function: what to call; never from two threads at once.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function, self._next = function, 0
        self._brought: dict[int, tuple[Any, ...]] = {}
        self._lock = threading.Lock()

    def __call__(self, number: int, *values: Any) -> None:
        """Bring number 0, 1, 2, ...; what comes too early is kept until it is its turn."""
        with self._lock:
            self._brought[number] = values
            while self._next in self._brought:
                self._function(*self._brought.pop(self._next))
                self._next += 1


def even_step(total: int, most: int, device: torch.device) -> int:
    """Size of the pieces of something, at most ``most``, so that the threads of :func:`each` have equally many of them.

    With two threads, 128 rows of at most 14 make ten pieces of 13.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    pieces = threads * -(-total // (most * threads))
    return max(1, -(-total // max(1, pieces)))


def _threads_can_be_told() -> bool:
    modes = _get_current_function_mode(), _get_current_dispatch_mode()  # type: ignore[no-untyped-call]
    watched = modes != (None, None) or torch._C._autograd._profiler_enabled()
    return _openmp() and not watched and not torch.compiler.is_compiling()


def _rest() -> None:
    """Let the threads of OpenMP go. After an operator they wait for the next one by running idle, for milliseconds.

    Meanwhile they take the cores from threads of our own. The next operator with several threads starts new ones.
    """
    pause = _pause()
    if pause is not None and os.getpid() == _PROCESS:  # a fork has no such threads, and would wait for them
        pause(_SOFT)  # the answer does not matter: nothing but time depends on it


@functools.cache
def _pause() -> Callable[[int], int] | None:
    """That of OpenMP 5; None where it is not to be found."""
    return getattr(ctypes.CDLL(None), "omp_pause_resource_all", None) if sys.platform == "linux" else None


@functools.cache
def _keep_memory() -> None:
    """Have the C library keep what operators free, for the operators that come.

    glibc gives large blocks back to the system, which makes each of their pages anew when it is touched. What is large,
    it learns from the largest block that was ever freed, up to 32 MiB.
    """
    torch.empty(_KEPT, dtype=torch.uint8, device="cpu")  # freed at once


@functools.cache
def _openmp() -> bool:
    """Whether a thread of Python may have its own number of threads; PyTorch without OpenMP has one for all."""
    return "backend: OpenMP" in torch.__config__.parallel_info()
