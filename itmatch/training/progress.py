"""What a training without a progress bar says."""

from __future__ import annotations

import time

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only


class EpochLines(Callback):
    """Prints one line per epoch: the loss of its last logged step, rSum of the validation, seconds.

    With a progress bar, which shows the same, nothing is printed.
    """

    _start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._start = time.monotonic()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        if trainer.progress_bar_callback is not None:
            return
        said = [f"epoch {trainer.current_epoch}"]
        for name, figure, digits in (("loss", "train/loss", 4), ("rSum", "val/rsum", 1)):
            if figure in trainer.callback_metrics:
                said.append(f"{name} {float(trainer.callback_metrics[figure]):.{digits}f}")
        print(*said, f"{time.monotonic() - self._start:.0f} s", sep="  ", flush=True)
