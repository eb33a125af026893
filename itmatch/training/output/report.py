"""What a test writes: the table of recalls, ``test_metrics.json`` and ``test_ranks.npz``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from itmatch.data import Stage
from itmatch.data.tokenizers.base import digest
from itmatch.evaluation import recall_table, results_table
from itmatch.evaluation.evaluator import Evaluator
from itmatch.evaluation.hits import hit_files, write_hits
from itmatch.evaluation.results.figures import by_protocol
from itmatch.formats.files import user_path, write_text, written_together
from itmatch.formats.messages import counted
from itmatch.formats.npz import write_npz
from itmatch.models import MatchingModel
from itmatch.ops.checks import check_choice
from itmatch.training.data import MatchingData
from itmatch.training.limits import fast_dev_batches


class RecallReport(Callback):
    """Prints the recall table after a test or a validation, and writes the figures as ``{stage}_metrics.json``.

    The file holds, in percent, ``i2t_r1``, ``i2t_r5``, ``i2t_r10`` and the same of ``t2i``, their sum ``rsum``, and the
    median and mean ranks ``i2t_medr``, ``i2t_meanr`` ...; then the figures of the protocol (``eccv_``, ``cxc_``,
    ``pmrp_``, ``rsum_std``), and ``twin_accuracy`` where the data have twins. ``{stage}_ranks.npz`` beside it has the
    rank of every query.

    Figures that are not those of a whole split, or not of the best weights, are told from others: by the title, and in
    the file by ``images``, how many of the first images were evaluated, and ``last_weights``, which is then 1.

    Args:
        dirpath: folder of the file; left out, the folder of the run, and no file without a logger.
        form: of the table: plain text, or one line as papers have it, in Markdown or LaTeX.

    Attributes:
        last_weights: what is reported on are the last weights of a training that kept no best ones.
    """

    def __init__(self, dirpath: str | Path | None = None, form: Literal["text", "markdown", "latex"] = "text") -> None:
        self.dirpath, self.form = dirpath, check_choice("form", form, "text", "markdown", "latex")
        self.last_weights = False
        self._folder: str | Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, which takes all processes."""
        self._folder = self.dirpath or run_folder(trainer)

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print and write the figures of the test."""
        self._report(trainer, pl_module, "test")

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print and write the figures of a validation that was asked for, not of those during training."""
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module, "val")

    def _report(self, trainer: Trainer, task: LightningModule, prefix: str) -> None:
        metrics = {
            name.removeprefix(f"{prefix}/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(f"{prefix}/")
        }
        if not metrics:
            return
        title, labels = self._labels(trainer, prefix)
        metrics |= labels
        evaluator = getattr(task, "evaluator", None)
        known = evaluator if isinstance(evaluator, Evaluator) else None
        self._print(title, metrics, "" if known is None else _counts(known, labels))
        for name in sorted(name for name in metrics if name.startswith("twin_accuracy")):
            print(f"{name.replace('_', ' ')}: {metrics[name]:.1f} (chance 50)")
        if self._folder is not None:
            path = user_path(self._folder) / f"{prefix}_metrics.json"
            written = [path, *_write_results(path, metrics, known)]
            print(f"written to {', '.join(map(str, written))}")

    def _print(self, title: str, metrics: dict[str, float], counts: str) -> None:
        """A table of the recalls, those of every protocol that was measured with others, and what else there is."""
        parts = by_protocol(metrics)
        whole = f"{title}{', ' if ': ' in title else ': '}{counts}" if counts and self.form == "text" else title
        rows = {whole: parts.pop("", {})}
        rows |= {f"{title}: {name}": figures for name, figures in parts.items() if "rsum" in figures}
        more = [name for name in metrics if name.startswith(("eccv_", "cxc_", "pmrp_")) or name.endswith("rsum_std")]
        if self.form == "text":
            for label, row in rows.items():
                print(recall_table(row, title=label))
            for name in more:
                print(f"{name}: {metrics[name]:.1f}")
        else:
            print(results_table(rows, self.form))
            if more:
                print(results_table({title: metrics}, self.form, more))

    def _labels(self, trainer: Trainer, prefix: str) -> tuple[str, dict[str, float]]:
        """The title of a report, and what its file says beside the figures."""
        labels: dict[str, float] = {}
        parts = []
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, MatchingData):
            stage: Stage = "val" if prefix == "val" else "test"
            images, whole = data.evaluated_images(stage), data.dataset(stage).num_images
            if images < whole:
                labels["images"] = images
                parts.append(f"the first {images} of {whole} images")
        if self.last_weights:
            labels["last_weights"] = 1
            parts.append("the last weights")
        return f"{prefix}: {', '.join(parts)}" if parts else prefix, labels


def _counts(evaluator: Evaluator, labels: Mapping[str, float]) -> str:
    """Of how many images and captions the recalls are; the images of a part are in its title already."""
    if evaluator.caption_image is None:  # nothing was ranked
        return ""
    images = "" if "images" in labels else f"{counted(len(evaluator.image_ids), 'images')}, "
    return f"{images}{counted(len(evaluator.caption_image), 'captions')}"


def _write_results(path: Path, metrics: Mapping[str, float], evaluator: Evaluator | None) -> list[Path]:
    """Write the figures, and ranks and hits where an evaluator has them; returns the files of the hits."""
    prefix = path.name.removesuffix("metrics.json")
    ranks, hits = path.with_name(f"{prefix}ranks.npz"), path.with_name(f"{prefix}hits")
    ranked, found = evaluator is not None and evaluator.ranks is not None, evaluator is not None and evaluator.top
    files = hit_files(hits)
    with written_together(removing=([] if ranked else [ranks]) + ([] if found else files)):  # of a test before
        write_text(path, json.dumps(metrics, indent=1) + "\n")
        if evaluator is not None and ranked:
            write_ranks(ranks, evaluator)
        if evaluator is not None and found:
            write_hits(hits, evaluator)
    return files if found else []


def write_ranks(path: Path, evaluator: Evaluator) -> None:
    """Write the rank of every query, from which two runs can be compared query by query.

    Raises:
        ValueError: the evaluator has not ranked a whole split.
    """
    ranks, caption_image = evaluator.ranks, evaluator.caption_image
    if ranks is None or caption_image is None:  # the two come together
        raise ValueError(f"{path}: no ranks to write; the evaluator has not ranked a whole split")
    content = {
        "image_to_text": ranks.image_to_text.cpu().numpy(),
        "text_to_image": ranks.text_to_image.cpu().numpy(),
        "caption_image": caption_image.cpu().numpy(),
        "image_ids": np.array(evaluator.image_ids, dtype=np.str_),
        "captions_digest": np.array(digest(evaluator.captions)),
    }
    write_npz(path, content, compressed=True)


def run_folder(trainer: Trainer) -> str | None:
    """Where a run keeps its files, by its logger; None without one or in a ``fast_dev_run``. All processes call it."""
    logger = trainer.logger
    if logger is None or fast_dev_batches(trainer):
        return None
    if isinstance(logger, (CSVLogger, TensorBoardLogger)):
        folder = logger.log_dir
    else:  # as ModelCheckpoint has it; a folder shared by all runs would lose files
        folder = os.path.join(logger.save_dir or trainer.default_root_dir, str(logger.name), str(logger.version))
    if folder is not None and folder.startswith("~"):  # some loggers take it for a name: keep to what they do
        folder = os.path.abspath(folder)
    found: str = trainer.strategy.broadcast(folder)
    return found


class EpochLines(Callback):
    """Prints one line per epoch: the loss of its last logged step, rSum of the validation, seconds.

    With a progress bar, which shows the same, nothing is printed. Where an epoch has fewer steps than
    ``log_every_n_steps``, its last one is logged.
    """

    _start: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that each epoch has a step that is logged."""
        data: Any = getattr(trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, MatchingData):
            steps, limit = len(data.train_dataloader()), trainer.limit_train_batches
            steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
            flags: Any = trainer
            flags.log_every_n_steps = min(flags.log_every_n_steps, max(1, steps))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._start = time.monotonic()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line, but not of an epoch that another process has trained: a resumed training ends it again."""
        start, self._start = self._start, None
        if start is None or trainer.progress_bar_callback is not None:
            return
        said = [f"epoch {trainer.current_epoch}"]
        for name, figure, digits in (("loss", "train/loss", 4), ("rSum", "val/rsum", 1)):
            if figure in trainer.callback_metrics:
                said.append(f"{name} {float(trainer.callback_metrics[figure]):.{digits}f}")
        print(*said, f"{time.monotonic() - start:.0f} s", sep="  ", flush=True)


class PartSizes(Callback):
    """Prints how many parameters each part of a model has that is to be trained, in one line."""

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        model = getattr(pl_module, "model", None)
        if not isinstance(model, MatchingModel):
            return
        parts = {name.replace("_", " "): part for name, part in model.named_children()}
        told = [f"{_number(_size(part))} in the {name}" for name, part in parts.items() if _size(part)]
        trained = sum(one.numel() for one in pl_module.parameters() if one.requires_grad)
        print(f"parameters: {', '.join(told)}; {_number(trained)} are trained", flush=True)


def _size(part: nn.Module) -> int:
    return sum(one.numel() for one in part.parameters())


def _number(count: int) -> str:
    """A count in words of its size: 229 K, 1.4 M."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.0f} K" if count < 999_500 else f"{count / 1e6:.1f} M"
