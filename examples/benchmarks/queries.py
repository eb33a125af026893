"""Few and many captions against the images of a test set: the library over a plain product and maximum.

    python examples/benchmarks/queries.py --threads 1 2 --busy 0 1 3

Hard alignment of 1, 32, 500 and 5 000 captions with 4 000 images, as it is without gradients. Beside it stands what one
would write by hand for images with the same number of regions. The two take turns. docs/benchmarks.md says how to read
the table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from inputs import Inputs
from measure import add_common_options, begin, print_table, told, write_json
from torch import Tensor

from itmatch.nn import HardAligningSimilarity, MeanPooling
from itmatch.ops.ragged import at_places

BLOCK = 4 << 20  # numbers that the plain product makes at a time

Row = dict[str, Any]


def plain(inputs: Inputs) -> Callable[[], Tensor]:
    """All scores by products of some images with all words at a time, maxima over the regions, and means."""
    image, text = inputs.image.features, inputs.text

    def score() -> Tensor:
        words = text.features[text.mask]
        step = max(1, BLOCK // (inputs.regions * len(words)))
        best = torch.cat(
            [
                (image[i : i + step].flatten(0, 1) @ words.T).view(-1, inputs.regions, len(words)).amax(1)
                for i in range(0, len(image), step)
            ]
        )
        return at_places(best, text.mask, 1).sum(2) / text.mask.sum(1)

    return score


def in_turns(works: dict[str, Callable[[], Any]], repeat: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds on the clock, and of the processor, of each call; the first ones are not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(repeat + 1):
        for name, work in works.items():
            start, used = time.perf_counter(), time.process_time()
            work()
            if turn:
                found[name].append((time.perf_counter() - start, time.process_time() - used))
    return found


def _keep_busy() -> None:
    torch.set_num_threads(1)
    a, out = torch.randn(512, 512), torch.empty(512, 512)
    while True:
        torch.mm(a, a, out=out)


@contextmanager
def beside(count: int) -> Iterator[None]:
    """Processes that multiply matrices all the time, one thread each."""
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=_keep_busy, daemon=True) for _ in range(count)]
    for process in busy:
        process.start()
    time.sleep(4 if busy else 0)  # until they have imported what they need
    try:
        yield
    finally:
        for process in busy:
            process.terminate()
            process.join()


@torch.no_grad()
def rows_of(dim: int, captions: int, busy: int, options: argparse.Namespace) -> Iterator[Row]:
    """One row for each number of threads."""
    options.dim = dim
    inputs = Inputs(options.images, captions, options, grad=False)
    similarity = HardAligningSimilarity(pooling=MeanPooling()).eval()
    works = {"library": inputs.scores_of(similarity), "plain": plain(inputs)}
    for threads in options.threads:
        torch.set_num_threads(threads)
        difference = float((works["library"]() - works["plain"]()).abs().max())
        found = in_turns(works, options.repeat)
        row: Row = {"work": f"{captions} captions, D = {dim}, {threads} threads, {busy} beside"}
        row |= {"captions": captions, "dim": dim, "threads": threads, "busy": busy, "difference": difference}
        for name, place in (("clock", 0), ("processor", 1)):
            pairs = zip(found["library"], found["plain"], strict=True)
            row[name] = statistics.median(ours[place] / theirs[place] for ours, theirs in pairs)
        row["plain"] = statistics.median(clock for clock, _ in found["plain"])
        row["seconds"] = statistics.median(clock for clock, _ in found["library"])
        yield told(row | {"times": found})


def main() -> None:
    """Measure the rows and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_common_options(parser)
    parser.set_defaults(threads=[1])
    actions = [action for action in parser._actions if action.dest == "threads"]
    actions[0].nargs = "+"
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--captions", type=int, nargs="+", default=[1, 32, 500, 5000])
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    parser.add_argument("--most", type=float, default=3e12, help="operations of a call; larger ones are left out")
    parser.add_argument("--busy", type=int, nargs="+", default=[0], help="processes at work beside")
    parser.add_argument("--repeat", type=int, default=5, help="ratios are medians of so many turns")
    options = parser.parse_args()
    options.dim, wanted, options.threads = options.dims[0], options.threads, max(options.threads)
    _, facts = begin(options)
    options.threads = wanted
    rows: list[Row] = []
    for busy in options.busy:
        with beside(busy):
            for dim in options.dims:
                for captions in options.captions:
                    if 2 * options.images * options.regions * captions * 13 * dim <= options.most:
                        rows += rows_of(dim, captions, busy, options)
    columns: dict[str, Callable[[Row], str]] = {
        "D": lambda row: str(row["dim"]),
        "captions": lambda row: str(row["captions"]),
        "threads": lambda row: str(row["threads"]),
        "busy beside": lambda row: str(row["busy"]),
        "plain ms": lambda row: f"{1000 * row['plain']:.3g}",
        "ms": lambda row: f"{1000 * row['seconds']:.3g}",
        "x plain": lambda row: f"{row['clock']:.2f}",
        "x plain, processor": lambda row: f"{row['processor']:.2f}",
        "difference": lambda row: f"{row['difference']:.0e}",
    }
    print_table(columns, rows)
    write_json(options.json, facts, rows)


if __name__ == "__main__":
    main()
