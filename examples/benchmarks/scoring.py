"""Scoring all pairs: time over the floor, against a textbook version, and memory.

    python examples/benchmarks/scoring.py --threads 2

docs/benchmarks.md says how to read the table. Every row is measured in this one process on the same random fragments:
the library, the textbook version of the same formula (textbook.py), and the matrix product that the floor is counted
with, in turns, so that all of them meet the same disturbances; times are medians.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import textbook
import torch
from inputs import Inputs, Scores
from measure import (
    Product,
    add_common_options,
    begin,
    megabytes,
    peak_extra_bytes,
    print_table,
    seconds,
    told,
    write_json,
)
from packages import find_packages
from torch import Tensor

from itmatch.losses import hard_negative_triplet_loss
from itmatch.nn import (
    BlockSimilarity,
    CrossAttentionSimilarity,
    HardAligningSimilarity,
    InteractiveSimilarity,
    LogSumExpPooling,
    MeanPooling,
    PatchSlimmingSimilarity,
    SetSimilarity,
    Similarity,
    SumPooling,
)

TEMPERATURE = 0.1  # of log-sum-exp over the words
MARGIN = 0.2
BLOCKS = 4  # of a vector
PATCHES = 197  # of a ViT, with the class token
TEXTBOOK_REPEATS = 3  # at most: it is slow, and its ratio needs no third digit
BYTES_AT_MOST = 0.8  # share of the free memory that a textbook version may take

Row = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """A row of the table."""

    label: str
    similarity: Callable[..., Similarity]
    textbook: Callable[[Similarity], Scores]
    images: int
    captions: int
    mode: str  # "inference", "backward" (a gradient for every pair) or "training" (hardest negatives)
    stored: float = 0  # vectors that the textbook keeps for the backward, for each pair and each of its fragments
    regions: int | None = None  # an image, where it is not for the command line to say
    words: int | None = None  # a caption, where it is not like a real one
    products: int = 1  # of D numbers for a region and a word
    sized: bool = False  # whether the similarity is built with the size D

    def build(self, options: argparse.Namespace, device: torch.device) -> Similarity:
        """The similarity, ready for what is measured."""
        similarity = self.similarity(options.dim) if self.sized else self.similarity()
        return similarity.to(device).train(self.mode != "inference")

    def inputs(self, images: int, captions: int, options: argparse.Namespace) -> Inputs:
        """What it scores."""
        sizes = {"regions": self.regions, "words": self.words, "products": self.products}
        return Inputs(images, captions, options, grad=self.mode != "inference", **sizes)


def hard(pooling: type[LogSumExpPooling | SumPooling | MeanPooling]) -> HardAligningSimilarity:
    """Hard alignment of words."""
    return HardAligningSimilarity("words", pooling(TEMPERATURE) if pooling is LogSumExpPooling else pooling())


def textbook_hard(_: Similarity, *, total: bool = False) -> Scores:
    """Hard alignment of words, with log-sum-exp or the sum."""
    pool = partial(torch.sum, dim=1) if total else lambda x: TEMPERATURE * (x / TEMPERATURE).logsumexp(1)
    return partial(textbook.hard_alignment, pool=pool)


def textbook_interactive(similarity: Similarity) -> Scores:
    """Interactive matching with the parameters of a similarity."""
    return partial(textbook.interactive, similarity=similarity)


def textbook_scan(_: Similarity, *, query: str) -> Scores:
    """SCAN."""
    return partial(textbook.cross_attention, query=query)


def textbook_slimming(similarity: Similarity) -> Scores:
    """LAPS with the weights of a similarity."""
    return partial(textbook.patch_slimming, similarity=similarity)


def quarters(dim: int) -> BlockSimilarity:
    """AVSE with four blocks a vector."""
    return BlockSimilarity(dim // BLOCKS)


def textbook_blocks(similarity: Any) -> Scores:
    """AVSE."""
    return partial(textbook.blocks, width=similarity.widths[0])


def textbook_sets(_: Similarity) -> Scores:
    """The smooth Chamfer similarity."""
    return textbook.smooth_chamfer


HARD = (partial(hard, LogSumExpPooling), textbook_hard)
SCAN = {q: (partial(CrossAttentionSimilarity, q), partial(textbook_scan, query=q)) for q in ("words", "regions")}
SETS = (SetSimilarity, textbook_sets)
LAPS = (PatchSlimmingSimilarity, textbook_slimming)
VIEWS: dict[str, Any] = {"regions": 2, "words": 1, "products": BLOCKS, "sized": True}
INTERACTIVE = (partial(InteractiveSimilarity, cross_level="score"), textbook_interactive)
ALL_PARTS = (partial(InteractiveSimilarity, region_alignment=True, cross_level="score"), textbook_interactive)
REFINED = (InteractiveSimilarity, textbook_interactive)
WORKS = {
    "hard": Work("hard alignment", *HARD, 256, 1000, "inference"),
    "t2i": Work("SCAN t2i", *SCAN["words"], 128, 320, "inference"),
    "i2t": Work("SCAN i2t", *SCAN["regions"], 128, 320, "inference"),
    "interactive": Work("CMSEI / Hire", *INTERACTIVE, 128, 320, "inference"),
    "refined": Work("CMSEI / Hire, refined", *REFINED, 128, 320, "inference"),
    "all-parts": Work("CMSEI / Hire, all parts", *ALL_PARTS, 128, 320, "inference"),
    "sets": Work("smooth Chamfer", *SETS, 128, 320, "inference"),
    "blocks": Work("AVSE", quarters, textbook_blocks, 1000, 5000, "inference", **VIEWS),
    "laps": Work("LAPS", *LAPS, 64, 128, "inference", regions=PATCHES, sized=True),
    "hard-backward": Work("hard alignment", *HARD, 128, 128, "backward"),
    "hard-training": Work("hard alignment", *HARD, 128, 128, "training"),
    "t2i-training": Work("SCAN t2i", *SCAN["words"], 128, 128, "training", stored=1.0),
    "i2t-training": Work("SCAN i2t", *SCAN["regions"], 128, 128, "training", stored=1.5),
    "interactive-training": Work("CMSEI / Hire", *INTERACTIVE, 128, 128, "training", stored=4.0),
    "refined-training": Work("CMSEI / Hire, refined", *REFINED, 128, 128, "training", stored=4.0),
    "sets-training": Work("smooth Chamfer", *SETS, 128, 128, "training"),
    "blocks-training": Work("AVSE", quarters, textbook_blocks, 128, 128, "training", **VIEWS),
    "laps-training": Work("LAPS", *LAPS, 64, 64, "training", stored=2.0, regions=PATCHES, sized=True),
}
SUM = Work("hard alignment, sum", partial(hard, SumPooling), partial(textbook_hard, total=True), 256, 1000, "inference")


def job(scores: Callable[[], Tensor], work: Work, inputs: Inputs, parameters: list[Tensor]) -> Callable[[], Tensor]:
    """What is timed; it returns the scores."""

    def infer() -> Tensor:
        with torch.no_grad():
            return scores()

    def step() -> Tensor:
        found = scores()
        if work.mode == "training":
            loss = hard_negative_triplet_loss(found, inputs.positives, margin=MARGIN)
        else:
            loss = (found * inputs.weights).sum()
        torch.autograd.grad(loss, [inputs.image.features, inputs.text.features, *parameters])
        return found.detach()

    return infer if work.mode == "inference" else step


def measure(work: Work, options: argparse.Namespace, product: Product) -> Iterator[Row]:
    """The row of a work; for the sum, those of other packages too."""
    images, captions = options.images or work.images, options.captions or work.captions
    inputs, similarity = work.inputs(images, captions, options), work.build(options, product.device)
    parameters = list(similarity.parameters())
    jobs = {"library": job(inputs.scores_of(similarity), work, inputs, parameters)}
    needed = 4 * work.stored * images * options.dim * sum(inputs.regions + n for n in inputs.lengths)
    fits = needed < BYTES_AT_MOST * free_bytes(product.device)
    if options.textbook and fits:
        jobs["textbook"] = job(inputs.scores_of_textbook(work.textbook(similarity)), work, inputs, parameters)
    if work is SUM:
        jobs |= {name: make(inputs.image, inputs.text) for name, make in find_packages(product.device).items()}

    found, memory = {}, {}
    for name, run in jobs.items():
        if name != "textbook":
            run()  # whatever is done once only
        found[name], memory[name] = peak_extra_bytes(run, product.device)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    rates = []
    for turn in range(options.repeat):
        rates.append(product.rate())
        for name, run in jobs.items():
            if name != "textbook" or turn < TEXTBOOK_REPEATS:
                times[name].append(seconds(run, product.device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    floor = inputs.flops / statistics.median(rates)
    for name in jobs:
        if name == "textbook":
            continue
        yield {
            "work": f"{work.label}, {work.mode}" if name == "library" else f"{name}, inference",
            "size": f"{images} x {captions}",
            "seconds": medians[name],
            "floor": floor,
            "textbook": medians.get("textbook"),
            "extra_bytes": memory[name],
            "textbook_extra_bytes": memory.get("textbook"),
            "difference": float((found[name] - found["textbook"]).abs().max()) if "textbook" in jobs else None,
            "times": times[name],
            "threads": torch.get_num_threads(),
            "device": str(product.device),
        }


def free_bytes(device: torch.device) -> float:
    """Memory that a textbook version could take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return float("inf")


def columns() -> dict[str, Callable[[Row], str]]:
    """The cells of a row."""
    return {
        "work": lambda row: row["work"],
        "images x captions": lambda row: row["size"],
        "ms": lambda row: f"{1000 * row['seconds']:.3g}",
        "x floor": lambda row: f"{row['seconds'] / row['floor']:.2f}",
        "textbook ms": lambda row: "-" if row["textbook"] is None else f"{1000 * row['textbook']:.3g}",
        "times faster": lambda row: "-" if row["textbook"] is None else f"{row['textbook'] / row['seconds']:.1f}",
        "extra MB": lambda row: megabytes(row["extra_bytes"]),
        "textbook MB": lambda row: megabytes(row["textbook_extra_bytes"]),
        "difference": lambda row: "-" if row["difference"] is None else f"{row['difference']:.0e}",
        "threads": lambda row: str(row["threads"]),
        "device": lambda row: row["device"],
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time and memory of scoring all pairs of images and captions.")
    parser.add_argument("--images", type=int, help="images of every row, instead of its own number")
    parser.add_argument("--captions", type=int, help="captions of every row, instead of its own number")
    parser.add_argument("--dim", type=int, default=1024, help="size of the fragments")
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    add_common_options(parser)
    parser.add_argument("--repeat", type=int, default=5, help="times are medians of so many calls")
    parser.add_argument("--only", nargs="+", choices=[*WORKS, "sum"], help="only these rows")
    parser.add_argument("--no-textbook", dest="textbook", action="store_false", help="leave the slow comparison out")
    return parser.parse_args()


def main() -> None:
    """Measure the rows and print them."""
    options = parse()
    product, facts = begin(options)
    works = WORKS | ({"sum": SUM} if options.only or find_packages(product.device) else {})
    chosen = options.only or list(works)
    rows = []
    for name in chosen:
        for row in measure(works[name], options, product):
            rows.append(told(row))
    print_table(columns(), rows)
    write_json(options.json, facts, rows)


if __name__ == "__main__":
    main()
