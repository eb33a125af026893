"""Seconds, bytes and the speed of a matrix product, as the benchmarks measure them."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATM = Path("/proc/self/statm")  # resident pages are its second number; Linux only
SAMPLE_EVERY = 0.001  # seconds


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock time of one call."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def times(work: Callable[[], Any], device: torch.device, repeat: int) -> float:
    """Median seconds of a call, after one that warms up."""
    work()
    return statistics.median(seconds(work, device) for _ in range(repeat))


def peak_extra_bytes(work: Callable[[], Any], device: torch.device) -> tuple[Any, int | None]:
    """What a call returns, and the largest memory in use during it, less that before it; None where it is not known.

    On a GPU the allocator knows it. On a CPU a thread reads the resident size of the process every millisecond, after
    free memory was handed back to the system; what the call returns is part of it.
    """
    gc.collect()
    if device.type == "cuda":
        wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = work()
        wait(device)
        return result, torch.cuda.max_memory_allocated(device) - before
    if not STATM.exists():
        return work(), None
    trim()
    done = threading.Event()
    before = largest = resident()

    def watch() -> None:
        nonlocal largest
        while not done.wait(SAMPLE_EVERY):
            largest = max(largest, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    result = work()
    done.set()
    watcher.join()
    return result, max(largest, resident()) - before


class Product:
    """A matrix product of a size that runs fast here: the rate that the floor is counted with.

    Args:
        dim: the common dimension, that of the fragments.
        device: where.
    """

    def __init__(self, dim: int, device: torch.device) -> None:
        self.device = device
        sizes = (512, 1024, 2048, 4096, *((8192,) if device.type == "cuda" else ()))
        largest = max(sizes)
        self.a, self.b = torch.randn(largest, dim, device=device), torch.randn(largest, dim, device=device)
        self.out = torch.empty(largest * largest, device=device)
        self.size = max(sizes, key=lambda size: max(self.rate(size) for _ in range(3)))

    def rate(self, size: int | None = None) -> float:
        """Floating-point operations a second of one product (size, dim) x (dim, size)."""
        size = self.size if size is None else size
        a, b, out = self.a[:size], self.b[:size], self.out[: size * size].view(size, size)
        return 2 * size * size * a.shape[1] / seconds(lambda: torch.mm(a, b.T, out=out), self.device)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options of every benchmark that computes."""
    parser.add_argument("--threads", type=int, help="threads of PyTorch; by default as many as it takes")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", type=Path, help="file for the numbers of the table, unrounded")


def begin(options: Any) -> tuple[Product, dict[str, Any]]:
    """Take the threads, time the product, and print where this runs."""
    if options.threads:
        torch.set_num_threads(options.threads)
    product = Product(options.dim, torch.device(options.device))
    facts = environment(options, product)
    print(f"{facts['device']}, {facts['threads']} threads, PyTorch {facts['torch']}, load {facts['load']}")
    print(f"matrix product {' x '.join(map(str, facts['product']))}: {facts['gflops']} GFLOP/s\n", flush=True)
    return product, facts


def told(row: dict[str, Any]) -> dict[str, Any]:
    """The row, after saying how long its work took."""
    print(f"{row['work']}: {row['seconds']:.3g} s", file=sys.stderr, flush=True)
    return row


def write_json(path: Path | None, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """All numbers, if a file is wanted."""
    if path is not None:
        path.write_text(json.dumps({"environment": facts, "rows": rows}, indent=1), "utf-8")


def environment(options: Any, product: Product) -> dict[str, Any]:
    """What the numbers depend on."""
    device = product.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "options": {name: str(value) for name, value in vars(options).items()},
        "product": [product.size, product.a.shape[1], product.size],
        "gflops": round(statistics.median(product.rate() for _ in range(5)) / 1e9, 1),
    }


def megabytes(value: float | None) -> str:
    """The cell of a number of bytes."""
    return "-" if value is None else f"{value / 2**20:.0f}"


def print_table(columns: dict[str, Callable[[dict[str, Any]], str]], rows: list[dict[str, Any]]) -> None:
    """A Markdown table with aligned columns."""
    lines = [list(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        print("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def resident() -> int:
    """Bytes of memory that this process has in use; Linux only."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def trim() -> None:
    """Hand free memory back to the system; what the C library keeps would hide what a call takes."""
    hand_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if hand_back is not None:
        hand_back(0)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
