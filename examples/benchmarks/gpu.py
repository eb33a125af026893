"""All that is to be known of a GPU in one command of at most eight minutes: is it right, and how fast is it.

    python examples/benchmarks/gpu.py --json gpu.json --table gpu.md
    python examples/benchmarks/gpu.py --device cpu --small
    python examples/benchmarks/gpu.py --device twin --small --only precision waits

- *precision*: every similarity and loss against its twin on the CPU, in float32, TF32 and bf16;
- *tests*: those that are marked ``cuda``;
- *waits*: of a training step, by PyTorch's account;
- *scoring*: share of the rate that a matrix product reaches in the same precision;
- *training*: a step of every system, with its peak memory;
- *loading*: a batch gathered from features on the device, and one copied from pinned memory;
- *ranks*: a test set of the size of COCO 5K, scored and ranked.

What fails is told of in its section, and the others go on; the exit status is then 1. A section that would begin after
``--minutes`` is left out, and said to be. The device ``twin`` (twin.py) takes the ways of a GPU in host memory.
docs/benchmarks.md has the tables.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import precision
import torch
import training
import twin
import waits
from evaluation import fragments, moved
from inputs import Inputs
from measure import Product, environment, megabytes, peak_extra_bytes, print_table, times, write_json
from steps import systems
from torch import Tensor

from itmatch.evaluation import rank_fragments, retrieval_metrics
from itmatch.losses import HardNegativeTripletLoss
from itmatch.nn import CrossAttentionSimilarity, HardAligningSimilarity, InteractiveSimilarity, MeanPooling
from itmatch.training.step import compute_loss

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]
SIZES = {  # of the whole, and of --small
    "dim": (1024, 16),
    "features": (2048, 12),
    "words": (300, 6),
    "regions": (36, 5),
    "images": (1000, 6),
    "captions": (5000, 10),
    "ranked": (5000, 12),
    "stored": (2000, 16),
    "batches": ((128, 512), (4, 8)),
    "repeat": (5, 1),
}


def modes(device: torch.device, *, every: bool = False) -> tuple[str, ...]:
    """Precisions: all of a GPU; elsewhere, where the others are none or slow, float32, and on a CPU all on demand."""
    return precision.MODES if device.type == "cuda" or (every and device.type == "cpu") else precision.MODES[:1]


def check_precision(device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """Distances from the twins on the CPU."""
    for row in precision.compare(device, modes(device, every=True)):
        if not row["same"]:
            options.failures.append(f"{row['work']} differs from its twin on the CPU")
        yield row


def run_tests(device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """The marked tests, in a process of their own."""
    if device.type != "cuda":
        yield {"work": "tests marked cuda", "result": "not run: no GPU"}
        return
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        options.failures.append("tests marked cuda")
        print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
    yield {"work": "tests marked cuda", "result": (done.stdout.strip().splitlines() or ["no output"])[-1]}


def count_waits(device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """Waits of a training step of every system; on a CPU there is nothing to wait for."""
    if device.type == "cpu":
        return
    of_steps = argparse.Namespace(device=device.type, batch=16, steps=6, log_every=4)
    for name in systems({}):
        yield waits.measure(name, of_steps)


def product_rate(options: argparse.Namespace, device: torch.device, mode: str) -> float:
    """Operations a second of a large product in a precision."""
    size = 8192 if device.type == "cuda" else 256
    a, b = torch.randn(size, options.dim, device=device), torch.randn(options.dim, size, device=device)
    if mode == "bf16":
        a, b = a.bfloat16(), b.bfloat16()
    with precision.precision("float32" if mode == "bf16" else mode, device):
        return 2 * size * size * options.dim / times(lambda: a @ b, device, options.repeat)


def time_scoring(device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """All scores, and a step of gradients, with the share of the product's rate."""
    similarities = {
        "hard alignment": HardAligningSimilarity(),
        "SCAN": CrossAttentionSimilarity(),
        "CMSEI / Hire": InteractiveSimilarity(),
    }
    for mode in modes(device):
        rate = product_rate(options, device, mode)
        for name, similarity in similarities.items():
            for grad in (False, True):
                sizes = (128, 128) if grad and not options.small else (options.images, options.captions)
                yield score(f"{name}{', training' if grad else ''}", similarity.to(device), mode, rate, sizes, options)


def score(
    name: str, similarity: Any, mode: str, rate: float, sizes: tuple[int, int], options: argparse.Namespace
) -> Row:
    """One row of scoring."""
    device, grad = torch.device(options.device), name.endswith("training")
    inputs = Inputs(*sizes, options, grad=grad)
    loss = HardNegativeTripletLoss(margin=0.2)

    def work() -> None:
        with precision.precision(mode, device), torch.set_grad_enabled(grad):
            scores: Tensor = similarity(inputs.image, inputs.text)
            if grad:
                loss(scores, inputs.positives).backward()

    spent = times(work, device, options.repeat)
    extra = peak_extra_bytes(work, device)[1]
    return {"work": name, "mode": mode, "seconds": spent, "share": inputs.flops / rate / spent, "extra_bytes": extra}


def time_training(device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """A step of every system: encoders, scores, loss, gradients."""
    sizes = {"region_dim": options.features, "embed_dim": options.dim, "word_dim": options.words}
    for name, make in systems(sizes, training.VOCABULARY, training.PREDICATES).items():
        torch.manual_seed(0)
        model = make().to(device)
        for size in options.batches:
            batch = training.made_up(argparse.Namespace(**vars(options) | {"batch": size}))
            for mode in modes(device):

                def step(model: Any = model, batch: Any = batch, mode: str = mode) -> None:
                    model.zero_grad()
                    with precision.precision(mode, device):
                        loss = compute_loss(model, training.OBJECTIVE, batch).loss
                    loss.backward()

                row: Row = {"work": name, "batch": size, "mode": mode}
                try:
                    row |= {"seconds": times(step, device, options.repeat)}
                    row |= {"extra_bytes": peak_extra_bytes(step, device)[1]}
                except torch.OutOfMemoryError:
                    row |= {"seconds": None, "extra_bytes": None}
                    torch.cuda.empty_cache()
                yield row


def time_loading(device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """A batch of features: from the device, and from host memory."""
    shape = (options.stored, options.regions, options.features)
    for batch in options.batches:
        index = torch.randint(options.stored, (batch,), generator=torch.Generator().manual_seed(0))
        here = torch.zeros(shape, dtype=torch.float16)
        there, places, host = here.to(device), index.to(device), here[index]
        host = host.pin_memory() if device.type == "cuda" else host
        ways = {
            "gathered on the device": lambda there=there, places=places: there.index_select(0, places).float(),
            "copied from the host": lambda host=host: host.to(device, non_blocking=True).float(),
        }
        for name, way in ways.items():
            spent = times(way, device, options.repeat)
            yield {"work": name, "batch": batch, "seconds": spent, "rate": batch / spent}


@torch.no_grad()
def time_ranks(device: torch.device, options: argparse.Namespace) -> Iterator[Row]:
    """Ranks of all images and captions by hard alignment."""
    image, text, caption_image = fragments(options.ranked, options)
    sides = [moved(packed, device, torch.float32) for packed in (image, text)]
    caption_image, similarity = caption_image.to(device), HardAligningSimilarity(pooling=MeanPooling())
    flops = 2 * len(image.values) * len(text.values) * options.dim
    for mode in modes(device):
        rate, found = product_rate(options, device, mode), []

        def rank(mode: str = mode, found: list[Any] = found) -> None:
            with precision.precision(mode, device):
                found[:] = [rank_fragments(similarity, *sides, caption_image, chunk_size=1024, caption_chunk_size=4096)]

        spent = times(rank, device, 1)
        extra = peak_extra_bytes(rank, device)[1]
        row = {"work": f"{len(image)} x {len(text)}", "mode": mode, "seconds": spent, "share": flops / rate / spent}
        yield row | {"extra_bytes": extra, "rsum": retrieval_metrics(found[0])["rsum"]}


def milliseconds(row: Row) -> str:
    """The cell of a time."""
    return "out of memory" if row["seconds"] is None else f"{1000 * row['seconds']:.3g}"


Columns = dict[str, Callable[[Row], str]]
MS: Columns = {"ms": milliseconds}
MB: Columns = {"extra MB": lambda row: megabytes(row["extra_bytes"])}
SHARE: Columns = {"share of the product's rate": lambda row: f"{100 * row['share']:.0f} %"}
MODE: Columns = {"precision": lambda row: row["mode"]}
WORK: Columns = {"work": lambda row: row["work"]}
BATCH: Columns = {"batch": lambda row: str(row["batch"])}
ERRORS: Columns = {
    f"{mode}{part}": lambda row, key=f"{mode}{part}": f"{row[key]:.0e}" if key in row else "-"  # type: ignore[misc]
    for mode in precision.MODES
    for part in ("", ", gradient")
}
SECTIONS: dict[str, tuple[Callable[[torch.device, argparse.Namespace], Iterator[Row]], Columns]] = {
    "precision": (check_precision, WORK | ERRORS),
    "tests": (run_tests, WORK | {"result": lambda row: row["result"]}),
    "waits": (count_waits, WORK | {"at most": lambda row: str(row["most"])}),
    "scoring": (time_scoring, WORK | MODE | MS | SHARE | MB),
    "training": (time_training, WORK | BATCH | MODE | MS | MB),
    "loading": (time_loading, WORK | BATCH | MS | {"samples/s": lambda row: f"{row['rate']:.0f}"}),
    "ranks": (time_ranks, WORK | MODE | MS | SHARE | MB | {"rSum": lambda row: f"{row['rsum']:.1f}"}),
}


def run(name: str, device: torch.device, options: argparse.Namespace) -> list[Row]:
    """The rows of a section; those before something fails where it does."""
    rows: list[Row] = []
    try:
        for row in SECTIONS[name][0](device, options):
            rows.append(row)
    except Exception as error:
        options.failures.append(f"{name}: {type(error).__name__}: {error}")
    return rows


def parse() -> argparse.Namespace:
    """The command line, with the sizes of the work."""
    parser = argparse.ArgumentParser(description="What a GPU computes, and how fast.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu or twin without a GPU")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--minutes", type=float, default=7, help="no section begins after so many")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="only these sections")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--table", type=Path, help="file for the tables, in Markdown")
    options = parser.parse_args()
    for name, sizes in SIZES.items():
        setattr(options, name, sizes[options.small])
    options.failures = []
    return options


def main() -> int:
    """All sections."""
    options = parse()
    if options.device == twin.NAME:
        twin.device()
        with twin.waits():
            return measure(options)
    return measure(options)


def measure(options: argparse.Namespace) -> int:
    """The sections that are asked for; what the process ends with."""
    device, start = torch.device(options.device), time.monotonic()
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu.py: no GPU that PyTorch can use; --device cpu --small tries the script", file=sys.stderr)
        return 2
    facts, sections, text = environment(options, Product(options.dim, device)), {}, io.StringIO()
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        late = time.monotonic() - start > 60 * options.minutes
        sections[name] = [] if late else run(name, device, options)
        with redirect_stdout(text):
            print(f"\n{name}{': left out, no time was left' if late else ''}\n")
            if sections[name]:
                print_table(SECTIONS[name][1], sections[name])
    tables = f"{facts['device']}, PyTorch {facts['torch']}, {time.monotonic() - start:.0f} s\n{text.getvalue()}"
    tables += "".join(f"\nFAILED {failure}\n" for failure in options.failures)
    print(tables)
    if options.table:
        options.table.write_text(tables, "utf-8")
    found = [{"section": name, "rows": rows} for name, rows in sections.items()]
    write_json(options.json, facts | {"failures": options.failures}, found)
    return int(bool(options.failures))


if __name__ == "__main__":
    sys.exit(main())
