"""Checkpoints that are whole or not there, and which of them a run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from itmatch.formats.files import written_beside
from itmatch.training.checkpoints.reading import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there.

    Lightning writes a checkpoint to the folder for temporary files and moves it. Where that is another file system, the
    move is a copy, and a run that is killed or a disk that is full leaves half a checkpoint in the place of a good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside, then rename; remote places are left to Lightning."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with written_beside(path) as beside, beside.open("wb") as file:
            torch.save(checkpoint, file)  # to a file of Python's: torch's own would not tell why it failed

    def load_checkpoint(
        self,
        path: Any,
        map_location: Any = None,
        weights_only: bool | None = None,  # noqa: FBT001 - Lightning's signature
    ) -> dict[str, Any]:
        """Read tensors and plain values; a checkpoint that holds anything else is refused, wherever it comes from.

        Raises:
            ValueError: the file is no such checkpoint, or ``weights_only`` is False.
        """
        if weights_only is False:
            raise ValueError(f"{path}: weights_only=False would run what the file says; it is always True")
        return read_checkpoint(path, map_location or "cpu")


def use_atomic_checkpoints(trainer: Trainer) -> None:
    """Give a trainer :class:`AtomicCheckpointIO`, unless its strategy or its user chose another way to write."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


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
