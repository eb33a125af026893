"""What a run keeps and reports: its checkpoints, and the recalls of a test."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from itmatch.data import Stage
from itmatch.data.tokenizers.words import digest
from itmatch.evaluation import recall_table, results_table
from itmatch.evaluation.evaluator import Evaluator
from itmatch.evaluation.hits import hit_files, write_hits
from itmatch.evaluation.table import FORMS
from itmatch.formats.files import user_path, write_text, written_together
from itmatch.formats.npz import write_npz
from itmatch.training.data import MatchingData
from itmatch.training.limits import fast_dev_batches


class BestCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint for runs that may be interrupted.

    With ``save_last``, Lightning's writes ``last.ckpt`` only when an epoch was among the best; this one after every
    validation, and at the end of the training if there was none since. And Lightning's forgets the best epoch when a
    resumed run has a new folder, and then takes the first epoch for the best; this one goes on comparing.

    It saves right after the validation, unless ``save_on_train_epoch_end`` says otherwise: Lightning resumes a run with
    ``max_steps`` with other data from a checkpoint of the end of an epoch.

    Attributes:
        written: the ``last.ckpt`` that this run has written, whatever checkpoint is loaded afterwards; "" = none.
    """

    written = ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints that are due."""
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._keep_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints that are due."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):
            self._keep_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last weights, where no validation came after them."""
        self._keep_last(trainer)

    def _keep_last(self, trainer: Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):  # it does when this step has been saved
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _should_save_on_train_epoch_end(self, trainer: Trainer) -> bool:
        if self._save_on_train_epoch_end is None and any(trainer.num_val_batches):
            return False
        return super()._should_save_on_train_epoch_end(trainer)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Any]) -> None:
        super()._save_last_checkpoint(trainer, monitor_candidates)
        self.written = self.last_model_path

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score, as long as the checkpoint that has it is still there."""
        best = state_dict.get("best_model_path")
        if best and Path(best).is_file():
            state_dict = {**state_dict, "dirpath": self.dirpath}
        super().load_state_dict(state_dict)


class RecallReport(Callback):
    """Prints the recall table after a test or a validation, and writes the figures as ``{stage}_metrics.json``.

    Figures that are not those of a whole split, or not of the best weights, are told from others: by the title, and in
    the file by ``images``, how many of the first images were evaluated, and ``last_weights``, which is then 1.

    Args:
        dirpath: folder of the file; left out, the folder of the run, and no file without a logger.
        form: of the table: plain text, or one line as papers have it, in Markdown or LaTeX.

    Attributes:
        last_weights: what is reported on are the last weights of a training that kept no best ones.
    """

    def __init__(self, dirpath: str | Path | None = None, form: Literal["text", "markdown", "latex"] = "text") -> None:
        if form not in FORMS:
            raise ValueError(f"form: {form!r}, expected one of {', '.join(FORMS)}")
        self.dirpath, self.form = dirpath, form
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
        self._print(title, metrics)
        for name in sorted(name for name in metrics if name.startswith("twin_accuracy")):
            print(f"{name.replace('_', ' ')}: {metrics[name]:.1f} (chance 50)")
        if self._folder is not None:
            path = user_path(self._folder) / f"{prefix}_metrics.json"
            evaluator = getattr(task, "evaluator", None)
            known = evaluator if isinstance(evaluator, Evaluator) else None
            written = [path, *_write_results(path, metrics, known)]
            print(f"written to {', '.join(map(str, written))}")

    def _print(self, title: str, metrics: dict[str, float]) -> None:
        """A table of the recalls, those of every protocol that was measured with others, and what else there is."""
        protocols = [name.removesuffix("_rsum") for name in metrics if name.endswith("_rsum")]
        rows = {title: metrics}
        for name in protocols:
            start = f"{name}_"
            own = {key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)}
            rows[f"{title}: {name}"] = own
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
