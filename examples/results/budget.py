"""One budget for every comparison of docs/results.md, and how a run under it is made and measured.

A variant changes the parts that it is about (similarity, objective, an encoder) and nothing else. Every run is a process
of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

EPOCHS = 10
BATCH_SIZE = 128
EMBED_DIM = 256
WORD_DIM = 100
LEARNING_RATE = 5e-4
DECAY_AT = 8  # epoch at which the rate falls to a tenth
CLIP = 2.0
SEEDS = (0, 1, 2)


def build_data(root: str) -> Any:
    """The photo data under the budget."""
    from itmatch.data import PrecompFolder, SizeAugmentation
    from itmatch.training import MatchingData

    return MatchingData(PrecompFolder(root), batch_size=BATCH_SIZE, augmentation=SizeAugmentation())


def image_encoder(data: Any, **changes: Any) -> Any:
    """The region encoder that all variants share."""
    from itmatch.nn import RegionEncoder

    return RegionEncoder(data.feature_dim, EMBED_DIM, **changes)


def text_encoder(data: Any, vectors: str | None, **changes: Any) -> Any:
    """The bi-GRU that all variants share."""
    from itmatch.nn import GRUTextEncoder

    return GRUTextEncoder(data.vocabulary, EMBED_DIM, word_dim=WORD_DIM, vectors=vectors, **changes)


def run_one(make_task: Callable[..., Any], root: str, vectors: str | None, seed: int, threads: int) -> dict[str, Any]:
    """Train, select by dev rSum, test. Returns test recalls, costs, and the course of dev rSum."""
    import torch
    from lightning.pytorch import Callback, Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint

    torch.set_num_threads(threads)
    seed_everything(seed, verbose=False)
    data = build_data(root)
    parts = make_task(data, vectors)

    from torch.optim import AdamW
    from torch.optim.lr_scheduler import MultiStepLR

    from itmatch.training import MatchingTask

    task = MatchingTask(
        **parts,
        optimizer=lambda groups: AdamW(groups, lr=LEARNING_RATE),
        scheduler=lambda optimizer: MultiStepLR(optimizer, milestones=[DECAY_AT], gamma=0.1),
    )

    class Clock(Callback):
        """Seconds of each epoch of training, and of its steps alone; dev rSum after each."""

        def __init__(self) -> None:
            self.epochs: list[float] = []
            self.steps: list[float] = []
            self.dev: list[float] = []

        def on_train_epoch_start(self, *_: Any) -> None:
            self._epoch = time.perf_counter()

        def on_train_batch_start(self, *_: Any) -> None:
            self._step = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps.append(time.perf_counter() - self._step)

        def on_validation_start(self, trainer: Any, *_: Any) -> None:
            if not trainer.sanity_checking:
                self.epochs.append(time.perf_counter() - self._epoch)

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            if not trainer.sanity_checking:
                self.dev.append(float(trainer.callback_metrics["val/rsum"]))

    clock = Clock()
    folder = Path(os.environ.get("TMPDIR", ".")) / f"run-{os.getpid()}"
    keep = ModelCheckpoint(dirpath=folder, filename="best", monitor="val/rsum", mode="max")
    trainer = Trainer(
        max_epochs=EPOCHS,
        gradient_clip_val=CLIP,
        accelerator="cpu",
        callbacks=[clock, keep],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    start = time.perf_counter()
    trainer.fit(task, data)
    seconds = time.perf_counter() - start
    trainer.test(task, data, ckpt_path="best", verbose=False)
    test = {k.removeprefix("test/"): float(v) for k, v in trainer.callback_metrics.items() if k.startswith("test/")}
    Path(keep.best_model_path).unlink()
    folder.rmdir()
    return {
        "test": test,
        "dev_rsum": clock.dev,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "seconds": seconds,
        "seconds_per_epoch": statistics.median(clock.epochs),
        "step_ms": 1000 * statistics.median(clock.steps),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "threads": threads,
    }


def _child(queue: Any, arguments: tuple[Any, ...]) -> None:
    queue.put(run_one(*arguments))


def run_all(variants: Mapping[str, Callable[..., Any]], description: str) -> dict[str, list[dict[str, Any]]]:
    """Run every variant with every seed, except what a file of an earlier call holds; returns results by variant."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("root", help="folder of region features and captions (PrecompFolder)")
    parser.add_argument("--vectors", help="GloVe text file of word vectors; without it they start at random")
    parser.add_argument("--out", default="runs/results", help="folder of the results, a JSON file a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--only", nargs="+", choices=list(variants), help="run these variants only")
    parser.add_argument("--threads", type=int, default=2, help="threads of a run")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {}
    context = multiprocessing.get_context("spawn")
    for seed in options.seeds:
        for name in options.only or variants:
            path = out / f"{name}.seed{seed}.json"
            if not path.exists():
                queue = context.Queue()
                arguments = (variants[name], options.root, options.vectors, seed, options.threads)
                child = context.Process(target=_child, args=(queue, arguments))
                child.start()
                result = _wait(queue, child, f"{name}, seed {seed}")
                path.with_suffix(".part").write_text(json.dumps(result, indent=1))
                os.replace(path.with_suffix(".part"), path)
                print(
                    f"{name} seed {seed}: test rSum {result['test']['rsum']:.1f}, {result['seconds']:.0f} s", flush=True
                )
            results.setdefault(name, []).append(json.loads(path.read_text()))
    return results


def _wait(queue: Any, child: Any, what: str) -> dict[str, Any]:
    while True:
        try:
            result: dict[str, Any] = queue.get(timeout=5)
        except Exception as error:  # noqa: BLE001 - queue.Empty of a spawned context
            if not child.is_alive() and queue.empty():
                raise SystemExit(f"{what}: the run died with exit code {child.exitcode}") from error
        else:
            child.join()
            return result


def print_table(results: Mapping[str, list[dict[str, Any]]], labels: Mapping[str, str]) -> None:
    """A Markdown table: mean and standard deviation over the seeds."""
    columns = ["i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10"]
    head = ["", *(c.replace("_r", " R@") for c in columns), "rSum", "params", "ms/step", "s/epoch", "peak MB", "seeds"]
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for name, runs in results.items():
        cells = [labels.get(name, name)]
        cells += [f"{statistics.mean(r['test'][c] for r in runs):.1f}" for c in columns]
        rsum = [r["test"]["rsum"] for r in runs]
        spread = f" ± {statistics.stdev(rsum):.1f}" if len(rsum) > 1 else ""
        cells.append(f"{statistics.mean(rsum):.1f}{spread}")
        cells.append(f"{runs[0]['parameters'] / 1e6:.2f} M")
        for key in ("step_ms", "seconds_per_epoch", "peak_memory_mb"):
            cells.append(f"{statistics.median(r[key] for r in runs):.0f}")
        cells.append(str(len(runs)))
        print("| " + " | ".join(cells) + " |")
