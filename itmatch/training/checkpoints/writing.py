"""Checkpoints that are whole or not there."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer

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
