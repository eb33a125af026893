"""What a run writes: the recall table of a test, and the fragments of a prediction."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from itmatch.batch import Fragments
from itmatch.data import Stage
from itmatch.data.tokenizers.words import digest
from itmatch.evaluation import recall_table, results_table
from itmatch.evaluation.evaluator import Evaluator
from itmatch.evaluation.table import FORMS
from itmatch.formats.files import user_path, write_text, written_beside, written_together
from itmatch.formats.json import parse_json
from itmatch.formats.messages import shown_keys
from itmatch.formats.npz import write_npz
from itmatch.formats.tensors import read_safetensors
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
        more = [name for name in metrics if name.startswith(("eccv_", "cxc_", "pmrp_")) or name == "rsum_std"]
        if self.form == "text":
            print(recall_table(metrics, title=title))
            for name in more:
                print(f"{name}: {metrics[name]:.1f}")
        else:
            print(results_table({title: metrics}, self.form))
            if more:
                print(results_table({title: metrics}, self.form, more))
        for name in sorted(name for name in metrics if name.startswith("twin_accuracy")):
            print(f"{name.replace('_', ' ')}: {metrics[name]:.1f} (chance 50)")
        if self._folder is not None:
            path = user_path(self._folder) / f"{prefix}_metrics.json"
            evaluator = getattr(task, "evaluator", None)
            ranks = path.with_name(f"{prefix}_ranks.npz")
            ranked = evaluator if isinstance(evaluator, Evaluator) and evaluator.ranks is not None else None
            with written_together(removing=[ranks] if ranked is None else []):  # of a test that is overwritten
                write_text(path, json.dumps(metrics, indent=1) + "\n")
                if ranked is not None:
                    write_ranks(ranks, ranked)
            print(f"written to {path}")

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


class FragmentWriter(BasePredictionWriter):
    """Writes what ``predict`` encodes: ``images.safetensors`` and ``captions.safetensors``.

    Each file holds ``features`` (N, L, D), ``mask`` (N, L), ``index`` (N,) and, if the encoder makes them, ``pooled``
    (N, D) and ``is_relation`` (N, L). The metadata key ``ids`` is a JSON list: the image ids, or
    ``["image id", caption number]`` for captions.
    With several processes each writes its own share, ``images.rank0.safetensors`` and so on.

    Args:
        dirpath: folder of the files; left out, the folder of the run, or that of the trainer without a logger.
        overwrite: replace the files of an earlier prediction, which are left as they are otherwise.
    """

    def __init__(self, dirpath: str | Path | None = None, *, overwrite: bool = False) -> None:
        super().__init__(write_interval="epoch")
        self.dirpath, self.overwrite = dirpath, overwrite
        self._folder: str | Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, which takes all processes.

        Raises:
            ValueError: the data to predict is no MatchingData, which knows the ids.
            FileExistsError: the folder holds a prediction already.
        """
        data = getattr(trainer, "datamodule", None)
        if stage == "predict" and not isinstance(data, MatchingData):
            raise ValueError(f"FragmentWriter: predicts from a MatchingData, which knows the ids, found {data!r}")
        self._folder = self.dirpath or run_folder(trainer) or trainer.default_root_dir
        there = sorted(user_path(self._folder).glob("images*.safetensors"))
        if stage == "predict" and there and not self.overwrite:
            raise FileExistsError(f"{there[0]}: there is one already; --fragments.overwrite true replaces it")

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        """Write both files; they take their places together."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.dataset(data.predict_stage)
        assert self._folder is not None  # found in setup
        share = f".rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        report = []
        with written_together():
            for name, batches in zip(("images", "captions"), predictions, strict=True):
                index = torch.cat([index for _, index in batches]).cpu()
                if name == "images":
                    ids: list[Any] = [dataset.image_ids[i] for i in index.tolist()]
                else:
                    ids = [[dataset.image_ids[dataset.caption_image[i]], i] for i in index.tolist()]
                path = user_path(self._folder) / f"{name}{share}.safetensors"
                write_fragments(path, Fragments.cat([part.cpu() for part, _ in batches]), index, ids)
                report.append(f"{len(index)} {name} written to {path}")
        print(*report, sep="\n")


def write_fragments(path: Path, fragments: Fragments, index: torch.Tensor, ids: list[Any]) -> None:
    """Write fragments with the places and ids of their rows as safetensors."""
    from safetensors.torch import save_file

    found = {field.name: getattr(fragments, field.name) for field in fields(fragments)}
    tensors = {name: value for name, value in found.items() if value is not None} | {"index": index}
    with written_beside(path) as beside:
        save_file({k: v.contiguous() for k, v in tensors.items()}, str(beside), metadata={"ids": json.dumps(ids)})


def read_fragments(path: str | Path) -> tuple[Fragments, torch.Tensor, list[Any]]:
    """Fragments, indices and ids from a file of :func:`write_fragments`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such file of fragments, or a broken one.
    """
    path = user_path(path)
    tensors, metadata = read_safetensors(path)
    ids = parse_json(metadata.get("ids", "null"), f"{path}: ids")
    index = tensors.pop("index", None)
    names = [field.name for field in fields(Fragments)]
    if index is None or not {"features", "mask"} <= set(tensors) <= set(names) or not isinstance(ids, list):
        raise ValueError(f"{path}: holds {shown_keys(tensors)}, expected index, ids and fragments ({', '.join(names)})")
    try:
        fragments = Fragments(**tensors)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if index.dtype != torch.int64 or index.shape != (len(fragments),) or len(ids) != len(fragments):
        raise ValueError(
            f"{path}: index {index.dtype} of shape {tuple(index.shape)} and {len(ids)} ids, expected one for each of "
            f"{len(fragments)} rows"
        )
    if bool((index < 0).any()):
        raise ValueError(f"{path}: index {int(index.min())}, expected places of 0 or more")
    return fragments, index, ids


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
