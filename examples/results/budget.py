"""The budgets of docs/results.md: how every run of a table is trained, selected, tested and measured.

A variant names its parts (encoders, similarity, objective); all else is in the budget and the same for all variants of
a table. Every run is a process of its own, so that its peak memory is its own. A run's result is a JSON file; a table
that was interrupted goes on where it stopped.
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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

CLIP = 2.0
EMBED_DIM = 128
REGION_DROP, TOKEN_RATE = 0.2, 0.1  # size augmentation of photos
INPUT_NORM = "layer"  # the features are not normalised
SEEDS = (0, 1, 2)
LABELS = {
    "cosine": "mean-pooled cosine",
    "chan": "CHAN (hard, mean)",
    "scan_t2i": "SCAN t2i",
    "scan_i2t": "SCAN i2t",
    "cmsei_none": "CMSEI, no graph",
    "cmsei_spatial": "CMSEI, spatial graph",
    "cmsei_geometry": "CMSEI, spatial graph with geometry",
    "cmsei_semantic": "CMSEI, semantic graph",
    "cmsei_both": "CMSEI, both graphs",
    "hire": "Hire",
    "cmsei_refined": "CMSEI, both graphs, refined across levels",
    "hire_refined": "Hire, refined across levels",
    "chan_both": "CHAN with both graphs",
    "resg_objects": "ReSG, triplet, objects alone matched",
    "resg_triplet": "ReSG, triplet",
    "resg_center": "ReSG, triplet, center hinge",
    "resg_margin": "ReSG, triplet, positive-negative margin",
    "resg_all": "ReSG, all three losses",
}  # of the tables that compare systems

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

Variant = Callable[..., dict[str, Any]]
Members = tuple[str, ...]  # of an ensemble
Run = tuple["Budget", str, Any, int, argparse.Namespace]


def photos(options: argparse.Namespace, batch_size: int, **numbers: int) -> Any:
    """A folder of photos; ``numbers`` says of which splits only so many are taken, the first."""
    from itmatch.data import PrecompFolder, SizeAugmentation
    from itmatch.training import MatchingData

    augmentation = SizeAugmentation(region_drop=REGION_DROP, token_rate=TOKEN_RATE)
    data = MatchingData(PrecompFolder(options.root), batch_size=batch_size, augmentation=augmentation)
    for split, number in numbers.items():
        data.datasets[split] = images_of((data.source.split(split), range(number)))
    return data


def images_of(*chosen: tuple[Any, Sequence[int]]) -> Any:
    """Some images of datasets of one kind, in rising order, and their captions, in the order of the images."""
    import numpy as np

    from itmatch.data import ImageTextSplit

    columns: dict[str, list[Any]] = {}
    captions: list[str] = []
    parsed: list[Any] = []
    count = 0
    for dataset, images in chosen:
        own = np.flatnonzero(np.isin(dataset.caption_image, images))
        read = {name: getattr(dataset, name) for name in ("boxes", "labels", "relations", "relation_scores")}
        read = {name: values[images] for name, values in read.items() if values is not None}
        read["features"] = np.stack([dataset.features[i] for i in images])
        read["caption_image"] = np.searchsorted(images, dataset.caption_image[own]) + count
        for name, values in read.items():
            columns.setdefault(name, []).append(values)
        captions += [dataset.captions[i] for i in own]
        parsed += () if dataset.caption_relations is None else [dataset.caption_relations[i] for i in own]
        count += len(images)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    return ImageTextSplit(
        captions=captions,
        caption_relations=parsed or None,
        name=", ".join(f"{len(images)} images of {dataset.name}" for dataset, images in chosen),
        **joined,
    )


@dataclass(frozen=True)
class Budget:
    """What the runs of a table share.

    Args:
        epochs: passes over the training captions.
        make_data: ``make_data(options, batch_size)`` gives the MatchingData.
        batch_size: captions a step.
        learning_rate: of AdamW; falls to 0 along half a cosine, step by step.
        validate_every: epochs; the best dev rSum is tested. 0 = after the last one, which is tested.
        batches: an epoch ends after so many steps, with whatever captions it has come to; None = after all captions.
        needs_root: the data lies in a folder that the user names.
        also: ``also(task, data, seed)`` gives further results of the tested model, by name.
        keep_models: the tested model of a run stays in a folder beside its result.
    """

    epochs: int
    make_data: Callable[[argparse.Namespace, int], Any] = photos
    batch_size: int = 64
    learning_rate: float = 2e-3
    validate_every: int = 2
    batches: int | None = None
    needs_root: bool = True
    also: Callable[[Any, Any, int], dict[str, Any]] | None = None
    keep_models: bool = False


PHOTOS = Budget(epochs=8)


def encoders(
    data: Any, vectors: str | None, word_dim: int = 100, *, text: dict[str, Any] | None = None, **region: Any
) -> dict[str, Any]:
    """The two encoders that all variants share: linear regions, bi-GRU words; with further options of each."""
    from itmatch.nn import GRUTextEncoder, RegionEncoder

    return {
        "image_encoder": RegionEncoder(data.feature_dim, EMBED_DIM, input_norm=INPUT_NORM, **region),
        "text_encoder": GRUTextEncoder(data.vocabulary, EMBED_DIM, word_dim=word_dim, vectors=vectors, **(text or {})),
    }


def relations(graph: dict[str, Any] | None, *, implicit: bool) -> list[Any] | None:
    """Relations for a region encoder: self-attention if wanted, then a graph of these options (None = no graph)."""
    from itmatch.nn import ImplicitRelationAttention, SpatialSemanticGCN

    found: list[Any] = [ImplicitRelationAttention(EMBED_DIM)] if implicit else []
    return [*found, *([] if graph is None else [SpatialSemanticGCN(EMBED_DIM, **graph)])] or None


def resg(
    data: Any,
    vectors: str | None,
    *,
    graph: dict[str, Any],
    margins: dict[str, float],
    triplet: dict[str, Any] | None = None,
    word_dim: int = 100,
    terms: tuple[str, ...] = ("triplet",),
    relation_weight: float = 1.0,
) -> dict[str, Any]:
    """ReSG with some of its three losses; a ``relation_weight`` of 0 matches objects alone.

    The margin of the triplet is that of one level, and grows as the score does with the second.
    """
    from itmatch import losses, nn

    margin = margins["triplet"] * (1 + relation_weight)
    given = {
        "triplet": losses.HardNegativeTripletLoss(margin=margin, **(triplet or {"warmup_epochs": 1})),
        "center": losses.CenterHingeLoss(margin=margins["center"]),
        "positive_negative": losses.PositiveNegativeMarginLoss(margins["positive"], margins["negative"]),
    }
    return {
        **encoders(
            data,
            vectors,
            word_dim,
            pooling=nn.MeanPooling(),
            relations=[nn.VisualRelationGraph(EMBED_DIM, **graph)],
            text={"pooling": nn.MeanPooling(), "relations": [nn.TextualRelationGraph(EMBED_DIM)]},
        ),
        "similarity": nn.GraphMatchingSimilarity(relation_weight=relation_weight),
        "objective": losses.Objective({name: given[name] for name in terms}),
    }


def resg_variants(**common: Any) -> dict[str, Variant]:
    """The variants of ReSG: which losses it is trained with, and whether relations are matched at all."""
    make = partial(resg, **common)
    return {
        "resg_all": partial(make, terms=("triplet", "center", "positive_negative")),
        "resg_triplet": make,
        "resg_center": partial(make, terms=("triplet", "center")),
        "resg_margin": partial(make, terms=("triplet", "positive_negative")),
        "resg_objects": partial(make, relation_weight=0.0),
    }


def scoring(similarity: tuple[str, dict[str, Any]], margin: float, **triplet: Any) -> dict[str, Any]:
    """A similarity, by name and arguments, with mean pooling where it pools, and the triplet loss."""
    from itmatch import nn
    from itmatch.losses import HardNegativeTripletLoss

    name, arguments = similarity
    pooling = {} if name == "CosineSimilarity" else {"pooling": nn.MeanPooling()}
    return {
        "similarity": getattr(nn, name)(**pooling, **arguments),
        "objective": HardNegativeTripletLoss(margin=margin, **(triplet or {"warmup_epochs": 1})),
    }


def train_and_test(run: Run) -> dict[str, Any]:
    """One run: train, keep the best epoch by dev rSum, or the last one, and test it."""
    budget, name, make_parts, seed, options = run
    import torch
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.optim import AdamW
    from torch.optim.lr_scheduler import CosineAnnealingLR

    from itmatch.training import MatchingTask

    torch.set_num_threads(options.threads)
    seed_everything(seed, verbose=False)
    data = budget.make_data(options, budget.batch_size)
    batches = math.ceil(data.dataset("train").num_captions / budget.batch_size)
    steps = budget.epochs * min(batches, budget.batches or batches)
    task = MatchingTask(
        **make_parts(data, options.vectors),
        optimizer=lambda groups: AdamW(groups, lr=budget.learning_rate),
        scheduler=lambda optimizer: CosineAnnealingLR(optimizer, steps),
        scheduler_interval="step",
    )
    clock = _clock()
    with tempfile.TemporaryDirectory() as folder:
        chosen = [ModelCheckpoint(folder, monitor="val/rsum", mode="max")] if budget.validate_every else []
        trainer = Trainer(
            max_epochs=budget.epochs,
            check_val_every_n_epoch=budget.validate_every or budget.epochs,
            limit_train_batches=budget.batches or 1.0,
            gradient_clip_val=CLIP,
            callbacks=[clock, *chosen],
            enable_checkpointing=bool(chosen),
            num_sanity_val_steps=0,
            **QUIET,
        )
        start = time.perf_counter()
        trainer.fit(task, data)
        seconds = time.perf_counter() - start
        trainer.test(task, data, ckpt_path="best" if chosen else None, verbose=False)
    also = {} if budget.also is None else budget.also(task, data, seed)
    if budget.keep_models:
        task.model.save_pretrained(model_path(options, name, seed))
    return {
        "test": _tested(trainer),
        "dev_rsum": clock.dev,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "seconds": seconds,
        "seconds_per_epoch": statistics.median(clock.epochs),
        "step_ms": 1000 * statistics.median(clock.steps),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **also,
    }


def test_together(run: Run) -> dict[str, Any]:
    """The mean score of models that were trained on their own; their costs are added up."""
    budget, _, members, seed, options = run
    import torch
    from lightning.pytorch import Trainer

    from itmatch.models import MatchingModel
    from itmatch.training import MatchingTask

    torch.set_num_threads(options.threads)
    first, *others = (MatchingModel.from_pretrained(model_path(options, name, seed)) for name in members)
    task = MatchingTask.from_model(first)
    task.evaluate_with(*others)
    trainer = Trainer(enable_checkpointing=False, **QUIET)
    trainer.test(task, budget.make_data(options, budget.batch_size), verbose=False)
    results = [json.loads(result_path(options, name, seed).read_text()) for name in members]
    costs = [name for name, value in results[0].items() if isinstance(value, int | float)]
    added = {name: sum(result[name] for result in results) for name in costs}
    peak = max(result["peak_memory_mb"] for result in results)  # one after the other
    return {**added, "test": _tested(trainer), "peak_memory_mb": peak}


def _tested(trainer: Any) -> dict[str, float]:
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name.removeprefix("test/"): value for name, value in metrics.items() if name.startswith("test/")}


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
    _, name, variant, seed, options = run
    path = result_path(options, name, seed)
    result = train_and_test(run) if callable(variant) else test_together(run)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(result, indent=1))
    os.replace(beside, path)
    return f"{name}, seed {seed}: test rSum {result['test']['rsum']:.1f}, training took {result['seconds']:.0f} s"


def result_path(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Where the result of a run is, or will be."""
    return Path(options.out) / f"{name}.seed{seed}.json"


def model_path(options: argparse.Namespace, name: str, seed: int) -> Path:
    """The folder of the model of a run."""
    return result_path(options, name, seed).with_suffix("")


def _is_done(budget: Budget, name: str, variant: Variant | Members, seed: int, options: argparse.Namespace) -> bool:
    kept = not budget.keep_models or not callable(variant) or model_path(options, name, seed).exists()
    return kept and result_path(options, name, seed).exists()  # the result is written after the model


def run_all(
    variants: Mapping[str, Variant | Members], description: str, budget: Budget = PHOTOS
) -> dict[str, list[dict[str, Any]]]:
    """Run every variant with every seed, unless its result is there; returns the results by variant.

    A variant that is a tuple of the names of others is their ensemble; it is tested after they were trained.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.set_defaults(vectors=None)
    if budget.needs_root:
        parser.add_argument("root", help="folder of region features and captions (PrecompFolder)")
        parser.add_argument("--vectors", help="text file of word vectors; without it they start at random")
    add_options(parser, variants, budget.epochs)
    options = parser.parse_args()
    budget = replace(budget, epochs=options.epochs)
    return run_each([(budget, n, variants[n], s, options) for s in options.seeds for n in options.only], options)


def add_options(
    parser: argparse.ArgumentParser, names: Collection[str], epochs: int, out: str = "runs/results"
) -> None:
    """The options that all tables have; ``names`` are those of the variants."""
    parser.add_argument("--out", default=out, help="folder of the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--only", nargs="+", choices=list(names), default=list(names), help="only these variants")
    parser.add_argument("--epochs", type=int, default=epochs, help="instead of those of the table")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")


def run_each(runs: Sequence[Run], options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Do each run unless its result is there, ensembles last; returns the results by variant."""
    Path(options.out).mkdir(parents=True, exist_ok=True)
    missing = [run for run in runs if not _is_done(*run)]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for ready in ([run for run in missing if callable(run[2])], [run for run in missing if not callable(run[2])]):
            for line in pool.imap_unordered(_run_and_write, ready, chunksize=1):
                print(line, flush=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for _, name, _, seed, _ in runs:
        results.setdefault(name, []).append(json.loads(result_path(options, name, seed).read_text()))
    return results


def print_table(
    results: Mapping[str, list[dict[str, Any]]],
    labels: Mapping[str, str],
    costs: Mapping[str, str] | None = None,
    *,
    spread: bool = False,
) -> None:
    """A Markdown table: means over the seeds, with the standard deviation of rSum; costs of the least disturbed run.

    ``costs`` are further ones, with the heads of their columns. ``spread`` shows the deviation of every recall.
    """
    recalls = ["i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10"]
    head = [
        "",
        *(r.replace("_r", " R@") for r in recalls),
        "rSum",
        "parameters",
        "ms a step",
        "s an epoch",
        "peak MB",
        *(costs or {}).values(),
        "seeds",
    ]
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for name, runs in ((name, results[name]) for name in labels if name in results):
        cells = [labels[name]]
        cells += [mean([run["test"][recall] for run in runs], spread=spread) for recall in recalls]
        cells += [mean([run["test"]["rsum"] for run in runs]), f"{runs[0]['parameters']:,}"]
        for cost in ("step_ms", "seconds_per_epoch", "peak_memory_mb"):
            cells.append(f"{min(run[cost] for run in runs):.0f}")
        cells += [f"{min(run[cost] for run in runs):.2f}" for cost in costs or {}]
        cells.append(str(len(runs)))
        print("| " + " | ".join(cells) + " |")


def mean(values: Sequence[float], *, spread: bool = True) -> str:
    """A mean, and the standard deviation where there are several values."""
    deviation = f" ± {statistics.stdev(values):.1f}" if spread and len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"
