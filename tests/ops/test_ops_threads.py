import os
import platform
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from itmatch.ops import threads
from itmatch.ops.threads import each

CPU = torch.device("cpu")
LARGE = 1e9  # operations
SECONDS = 20  # after which a thread that waits for another gives up

pytestmark = pytest.mark.skipif(not threads._openmp(), reason="this PyTorch has one number of threads for all")


@pytest.fixture(autouse=True)
def _two_threads():
    torch.set_num_threads(2)  # and as before afterwards, see conftest.py


def workers(items=2):
    """The threads that work, which wait for each other when there are two of them."""
    met, found = threading.Barrier(2), []

    def work(_):
        found.append(threading.get_ident())
        met.wait(SECONDS)

    each(work, range(items), CPU, LARGE)
    return found


def in_new_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("items", [0, 1, 2, 1000])
def test_every_item_once(items, count):
    torch.set_num_threads(count)
    seen = []
    each(seen.append, range(items), CPU, LARGE)
    assert sorted(seen) == list(range(items))


def test_two_items_are_worked_on_at_a_time():
    found = workers()
    assert len(set(found)) == 2
    assert threading.get_ident() not in found


def test_a_thread_that_is_done_takes_the_next_item():
    """One item may take as long as all others."""
    last, seen = threading.Event(), []

    def work(item):
        if item == 0:
            assert last.wait(SECONDS)
        seen.append(item)
        if item == 9:
            last.set()

    each(work, range(10), CPU, LARGE)
    assert seen == [*range(1, 10), 0]


def test_the_number_of_threads_is_one_within_and_as_before_afterwards():
    torch.set_num_threads(3)
    met, within = threading.Barrier(3), []

    def work(_):
        within.append(torch.get_num_threads())
        met.wait(SECONDS)
        torch.ones(100, 100) @ torch.ones(100, 100)
        within.append(torch.get_num_threads())

    each(work, range(3), CPU, LARGE)
    assert within == [1] * 6
    assert torch.get_num_threads() == 3
    assert in_new_thread(torch.get_num_threads) == 3


def test_the_number_of_threads_is_as_before_after_an_error():
    """However late the other thread begins."""
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            each(lambda item: 1 / item, [0, 0], CPU, LARGE)
        assert torch.get_num_threads() == 2
        assert in_new_thread(torch.get_num_threads) == 2


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("outer", [nullcontext, torch.no_grad])
def test_what_holds_for_gradients_holds_in_the_threads(mode, outer):
    found = []

    def work(_):
        made = torch.ones(1, requires_grad=True) * 2
        found.append((torch.is_grad_enabled(), made.requires_grad, torch.is_inference_mode_enabled()))
        assert made.is_inference() == torch.is_inference_mode_enabled()

    with outer(), mode():
        work(0)
        each(work, range(4), CPU, LARGE)
        assert found[1:] == found[:1] * 4
        work(0)
    assert found[-1] == found[0]  # in the caller's thread too
    assert torch.is_grad_enabled()


def test_an_error_is_raised_and_nothing_else_is_begun():
    met, begun = threading.Barrier(2), []

    def work(item):
        begun.append(item)
        met.wait(SECONDS)
        if item == 0:
            raise KeyError("item 0")
        time.sleep(0.3)  # so that the other one has failed when this one is done

    with pytest.raises(KeyError, match="item 0"):
        each(work, range(100), CPU, LARGE)
    assert sorted(begun) == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("itmatch")]


def test_an_error_of_the_items_is_raised():
    def items():
        yield 1
        raise KeyError("the second")

    seen = []
    with pytest.raises(KeyError, match="the second"):
        each(seen.append, items(), CPU, LARGE)
    assert seen in ([1], [])


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def old_profiler():
    return torch.autograd.profiler.profile(use_kineto=False)


def profiler():
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])


@pytest.mark.parametrize("watch", [Functions, Dispatched, profiler, old_profiler, lambda: CPU])
def test_who_watches_the_callers_thread_sees_all(watch):
    found = []
    with watch():
        each(lambda _: found.append(threading.get_ident()), range(5), CPU, LARGE)
    assert found == [threading.get_ident()] * 5
    assert len(set(workers())) == 2  # nobody watches any more


def test_one_thread_is_the_callers():
    torch.set_num_threads(1)
    found = []
    each(lambda _: found.append(threading.get_ident()), range(5), CPU, LARGE)
    assert found == [threading.get_ident()] * 5


def test_little_work_is_not_worth_threads():
    found = []
    each(lambda _: found.append(threading.get_ident()), range(5), CPU, threads._WORTH_THREADS / 2)
    assert found == [threading.get_ident()] * 5


@pytest.mark.parametrize(("total", "most", "step"), [(128, 14, 13), (9, 100, 5), (1, 1, 1), (0, 5, 1), (100, 10, 10)])
def test_pieces_are_of_one_size_and_as_many_for_each_thread(total, most, step):
    assert threads.even_step(total, most, CPU) == step
    assert threads.even_step(total, most, torch.device("cuda")) == max(1, -(-total // max(1, -(-total // most))))


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_the_threads_are_for_a_cpu(device):
    found = []
    each(lambda _: found.append(threading.get_ident()), range(5), torch.device(device), LARGE)
    assert found == [threading.get_ident()] * 5


def test_without_openmp_all_is_done_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(threads, "_openmp", lambda: False)
    found = []
    each(lambda _: found.append(threading.get_ident()), range(5), CPU, LARGE)
    assert found == [threading.get_ident()] * 5


def test_items_are_drawn_by_one_thread_at_a_time():
    drawing = threading.Lock()

    class Items:
        left = 30

        def __iter__(self):
            return self

        def __next__(self):
            assert drawing.acquire(blocking=False), "two threads draw an item"
            time.sleep(0.002)
            self.left -= 1
            drawing.release()
            if self.left < 0:
                raise StopIteration
            return self.left

    seen = []
    each(seen.append, Items(), CPU, LARGE)
    assert sorted(seen) == list(range(30))


def test_items_of_a_generator():
    """Python refuses a second thread while it draws an item."""

    def items():
        for item in range(30):
            time.sleep(0.002)
            yield item

    seen = []
    each(seen.append, items(), CPU, LARGE)
    assert sorted(seen) == list(range(30))


def test_what_threads_bring_is_taken_in_order():
    taken = []
    take = threads.InOrder(lambda *values: taken.append(values))
    for number in (2, 0, 3):
        take(number, number, "value")
    assert taken == [(0, "value")]
    take(1, 1, "value")
    assert [number for number, _ in taken] == [0, 1, 2, 3]
    assert take._brought == {}


def _libgomp():
    maps = Path("/proc/self/maps")
    return maps.exists() and "libgomp" in maps.read_text()


@pytest.mark.skipif(threads._pause() is None or not _libgomp(), reason="another OpenMP, which may keep its threads")
def test_threads_that_wait_for_the_next_operator_are_let_go():
    """They would take the cores of our own threads."""

    def running():
        """How many threads there are; the system is a moment late to forget one that has ended."""
        found = [len(os.listdir("/proc/self/task"))]
        while found[-3:] != [found[-1]] * 3:
            time.sleep(0.02)
            found.append(len(os.listdir("/proc/self/task")))
        return found[-1]

    torch.ones(512, 512) @ torch.ones(512, 512)
    before, during, met = running(), [], threading.Barrier(2)

    def work(_):
        met.wait(SECONDS)  # both threads are there
        during.append(running())
        met.wait(SECONDS)

    each(work, range(2), CPU, LARGE)
    assert max(during) <= before + 1  # two of ours came, one of OpenMP went
    torch.ones(512, 512) @ torch.ones(512, 512)
    assert torch.get_num_threads() == 2
    assert running() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_does_not_wait_for_threads_that_it_has_not():
    torch.ones(512, 512) @ torch.ones(512, 512)
    child = os.fork()
    if child == 0:
        seen = []
        each(seen.append, range(5), CPU, LARGE)
        os._exit(0 if sorted(seen) == [0, 1, 2, 3, 4] else 1)
    for _ in range(100 * SECONDS):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the fork hangs")
    assert status == 0


FREED = """
import resource, torch
from itmatch.ops.threads import each

each(lambda _: None, [0], torch.device("cpu"), 1e9)
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(1 << 18) for _ in range(20)]  # 1 MB each
    del blocks
    made = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(made)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_operators_free_is_kept_for_the_next():
    """Else 5 088 pages are made anew each time, mostly."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FREED], env=own, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500
