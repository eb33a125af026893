"""The one budget of docs/results.md: how every run of every table is trained, selected, tested and measured.

A variant names its parts (encoders, similarity, objective); all else is here and the same for all. Every run is a
process of its own, so that its peak memory is its own. A run's result is a JSON file; a table that was interrupted goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

EPOCHS = 8
BATCH_SIZE = 64
LEARNING_RATE = 2e-3  # falls to 0 along half a cosine, step by step
CLIP = 2.0
VALIDATE_EVERY = 2  # epochs; the best dev rSum is tested
EMBED_DIM = 128
REGION_DROP, TOKEN_RATE = 0.2, 0.1  # size augmentation
INPUT_NORM = "layer"  # the features of the photo data are not normalised
SEEDS = (0, 1, 2)

Run = tuple[str, Callable[..., dict[str, Any]], int, argparse.Namespace]


def build_data(root: str) -> Any:
    """The photo data under the budget."""
    from itmatch.data import PrecompFolder, SizeAugmentation
    from itmatch.training import MatchingData

    augmentation = SizeAugmentation(region_drop=REGION_DROP, token_rate=TOKEN_RATE)
    return MatchingData(PrecompFolder(root), batch_size=BATCH_SIZE, augmentation=augmentation)


def encoders(data: Any, vectors: str | None, **region: Any) -> dict[str, Any]:
    """The two encoders that all variants share: linear regions, bi-GRU words."""
    from itmatch.nn import GRUTextEncoder, RegionEncoder

    return {
        "image_encoder": RegionEncoder(data.feature_dim, EMBED_DIM, input_norm=INPUT_NORM, **region),
        "text_encoder": GRUTextEncoder(data.vocabulary, EMBED_DIM, word_dim=100, vectors=vectors),
    }


def train_and_test(run: Run) -> dict[str, Any]:
    """One run: train, keep the best epoch by dev rSum, test it."""
    _, make_parts, seed, options = run
    import torch
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.optim import AdamW
    from torch.optim.lr_scheduler import CosineAnnealingLR

    from itmatch.training import MatchingTask

    torch.set_num_threads(options.threads)
    seed_everything(seed, verbose=False)
    data = build_data(options.root)
    steps = EPOCHS * math.ceil(data.dataset("train").num_captions / BATCH_SIZE)
    task = MatchingTask(
        **make_parts(data, options.vectors),
        optimizer=lambda groups: AdamW(groups, lr=LEARNING_RATE),
        scheduler=lambda optimizer: CosineAnnealingLR(optimizer, steps),
        scheduler_interval="step",
    )
    clock = _clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=EPOCHS,
            check_val_every_n_epoch=VALIDATE_EVERY,
            gradient_clip_val=CLIP,
            accelerator="cpu",
            callbacks=[clock, ModelCheckpoint(folder, monitor="val/rsum", mode="max")],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        start = time.perf_counter()
        trainer.fit(task, data)
        seconds = time.perf_counter() - start
        trainer.test(task, data, ckpt_path="best", verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {
        "test": {k.removeprefix("test/"): v for k, v in metrics.items() if k.startswith("test/")},
        "dev_rsum": clock.dev,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "seconds": seconds,
        "seconds_per_epoch": statistics.median(clock.epochs),
        "step_ms": 1000 * statistics.median(clock.steps),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _clock() -> Any:
    from lightning.pytorch import Callback

    class Clock(Callback):
        """Seconds of each epoch and each step, without validation; dev rSum after each validation."""

        def __init__(self) -> None:
            self.epochs: list[float] = []
            self.steps: list[float] = []
            self.dev: list[float] = []

        def on_train_epoch_start(self, *_: Any) -> None:
            self._epoch = time.perf_counter()

        def on_train_batch_start(self, *_: Any) -> None:
            self._step = time.perf_counter()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            self.steps.append(time.perf_counter() - self._step)
            if trainer.is_last_batch:
                self.epochs.append(time.perf_counter() - self._epoch)

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            self.dev.append(float(trainer.callback_metrics["val/rsum"]))

    return Clock()


def _run_and_write(run: Run) -> str:
    name, _, seed, options = run
    path = result_path(options, name, seed)
    result = train_and_test(run)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(result, indent=1))
    os.replace(beside, path)
    return f"{name}, seed {seed}: test rSum {result['test']['rsum']:.1f}, training took {result['seconds']:.0f} s"


def result_path(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Where the result of a run is, or will be."""
    return Path(options.out) / f"{name}.seed{seed}.json"


def run_all(variants: Mapping[str, Callable[..., Any]], description: str) -> dict[str, list[dict[str, Any]]]:
    """Run every variant with every seed, unless its result is there; returns the results by variant."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("root", help="folder of region features and captions (PrecompFolder)")
    parser.add_argument("--vectors", help="text file of word vectors; without it they start at random")
    parser.add_argument("--out", default="runs/results", help="folder of the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--only", nargs="+", choices=list(variants), default=list(variants), help="only these variants")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    wanted = [(name, seed) for seed in options.seeds for name in options.only]
    runs = [(n, variants[n], s, options) for n, s in wanted if not result_path(options, n, s).exists()]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for line in pool.imap_unordered(_run_and_write, runs, chunksize=1):
            print(line, flush=True)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    for name, seed in wanted:
        results[name].append(json.loads(result_path(options, name, seed).read_text()))
    return results


def print_table(results: Mapping[str, list[dict[str, Any]]], labels: Mapping[str, str]) -> None:
    """A Markdown table: means over the seeds, with the standard deviation of rSum; costs of the least disturbed run."""
    recalls = ["i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10"]
    head = [
        "",
        *(r.replace("_r", " R@") for r in recalls),
        "rSum",
        "parameters",
        "ms a step",
        "s an epoch",
        "peak MB",
        "seeds",
    ]
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for name, runs in results.items():
        rsum = [run["test"]["rsum"] for run in runs]
        spread = f" ± {statistics.stdev(rsum):.1f}" if len(rsum) > 1 else ""
        cells = [labels[name]]
        cells += [f"{statistics.mean(run['test'][r] for run in runs):.1f}" for r in recalls]
        cells += [f"{statistics.mean(rsum):.1f}{spread}", f"{runs[0]['parameters']:,}"]
        for cost in ("step_ms", "seconds_per_epoch", "peak_memory_mb"):
            cells.append(f"{min(run[cost] for run in runs):.0f}")
        cells.append(str(len(runs)))
        print("| " + " | ".join(cells) + " |")
