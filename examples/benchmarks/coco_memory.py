"""Peak memory of an evaluation of COCO 5K: 5 000 images, 25 000 captions, D = 1024, for every shipped system.

    python examples/benchmarks/coco_memory.py --threads 2

Each system runs in a process of its own. One batch is really encoded and stands for all of them; of the ranking the
first blocks are done, which are as large as all that follow. docs/benchmarks.md says how to read the table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from measure import add_common_options, begin, print_table, write_json
from torch import Tensor, nn
from training import VOCABULARY, made_up
from training import systems as published

from itmatch.batch import Fragments
from itmatch.evaluation.evaluator import Evaluator
from itmatch.models import MatchingModel, scan_gru, sgraf_gru, vse_infty_gru, vse_pp_gru
from itmatch.nn import SimilarityFiltration

IMAGES, CAPTIONS, BATCH = 5000, 25_000, 125
DTYPES = {"float32": None, "float16": torch.float16}


def systems(options: argparse.Namespace) -> dict[str, Callable[[], MatchingModel]]:
    """Every shipped system with a GRU."""
    sizes = {"region_dim": options.features, "embed_dim": options.dim, "word_dim": options.words}
    return {
        **published(options),
        "SCAN": partial(scan_gru, VOCABULARY, **sizes),
        "SGR": partial(sgraf_gru, VOCABULARY, **sizes),
        "SAF": partial(sgraf_gru, VOCABULARY, SimilarityFiltration(), **sizes),
        "VSE++": partial(vse_pp_gru, VOCABULARY, **sizes),
        "VSE-infinity": partial(vse_infty_gru, VOCABULARY, **sizes),
    }


class _EnoughError(Exception):
    pass


class FirstBlocks(nn.Module):
    """A similarity that stops after some blocks."""

    def __init__(self, similarity: nn.Module, blocks: int) -> None:
        super().__init__()
        self.similarity, self.blocks = similarity, blocks

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """Scores, or the end."""
        if self.blocks == 0:
            raise _EnoughError
        self.blocks -= 1
        scores: Tensor = self.similarity(image, text)
        return scores


def run(task: tuple[str, str, argparse.Namespace]) -> dict[str, Any]:
    """The row of a system."""
    name, dtype, options = task
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = systems(options)[name]().eval()
    batch = made_up(argparse.Namespace(**{**vars(options), "batch": BATCH, "device": "cpu"}))
    assert batch.regions is not None
    assert batch.captions is not None
    with torch.no_grad():
        image, text = model.image_encoder(batch.regions), model.text_encoder(batch.captions)
    before = peak()
    evaluator = Evaluator(FirstBlocks(model.similarity, options.blocks), DTYPES[dtype])
    for start in range(0, options.images, BATCH):
        evaluator.add_images(image, torch.arange(start, start + BATCH))
    for start in range(0, 5 * options.images, BATCH):
        places = torch.arange(start, start + BATCH)
        evaluator.add_captions(text, places, places // 5)
    with suppress(_EnoughError):
        evaluator.compute()
    return {"work": name, "fragments": dtype, "before": before, "peak": peak()}


def peak() -> int:
    """Most bytes that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dim", type=int, default=1024, help="size of the fragments")
    parser.add_argument("--features", type=int, default=2048, help="numbers a region")
    parser.add_argument("--words", type=int, default=300, help="size of a word embedding")
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    parser.add_argument("--images", type=int, default=IMAGES, help="images, each with five captions")
    parser.add_argument("--blocks", type=int, default=2, help="blocks that are scored")
    parser.add_argument("--only", nargs="+", help="only these systems")
    add_common_options(parser)
    options = parser.parse_args()
    if options.device != "cpu":
        parser.error("the memory of the process is measured, on the CPU")
    unknown = sorted(set(options.only or ()) - set(systems(options)))
    if unknown:
        parser.error(f"--only {unknown[0]}: expected some of {', '.join(systems(options))}")
    _, facts = begin(options)
    rows = []
    for name in options.only or systems(options):
        for dtype in DTYPES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(run, ((name, dtype, options),)))
            print(f"{name}, {dtype}: {rows[-1]['peak'] / 1e9:.2f} GB", file=sys.stderr, flush=True)
    columns = {
        "system": lambda row: row["work"],
        "fragments": lambda row: row["fragments"],
        "model and one batch, GB": lambda row: f"{row['before'] / 1e9:.2f}",
        "peak, GB": lambda row: f"{row['peak'] / 1e9:.2f}",
    }
    print_table(columns, rows)
    write_json(options.json, facts, rows)


if __name__ == "__main__":
    main()
