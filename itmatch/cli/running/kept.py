"""The checkpoints that a run keeps, and what is said of those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning.pytorch import Trainer

from itmatch.cli.errors import warn
from itmatch.stopping import Stopped
from itmatch.training.checkpoints.writing import BestCheckpoint
from itmatch.training.processes import Processes


@contextmanager
def told_where_to_go_on(command: str, processes: Processes) -> Iterator[None]:
    """A run that is stopped says which checkpoint holds it."""
    try:
        yield
    except Stopped as stop:
        if command == "fit" and stop.message is not None:
            kept = [] if processes.trainer is None else checkpoints_of(processes.trainer)
            last = next((one.written for one in kept if one.written), None)
            found = "no last.ckpt was written" if last is None else f"--ckpt_path {last} goes on from there"
            raise Stopped(f"{stop.message}; {found}", stop.status) from stop
        raise


def checkpoints_of(trainer: Trainer) -> list[BestCheckpoint]:
    """The callbacks that keep them."""
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint)]


def warn_of_no_best(trainer: Trainer, kept: Sequence[BestCheckpoint], *, tested: bool) -> None:
    """Say why there is no best checkpoint, and what there is."""
    reason = "no validation took place" if trainer.global_step else "no training step was made"
    if kept and kept[0].monitor in trainer.callback_metrics:
        reason = "no checkpoint of a validation was kept"
    last = kept[0].written if kept else ""
    found = f"{last} holds the last weights" if last else "no file holds the last weights"
    warn(f"{reason}, so there is no best checkpoint; {found}{', which are tested' if tested else ''}")
