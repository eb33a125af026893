"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; what was written takes its place as ``path`` when the block ends without an error.

    Raises:
        OSError: it could not be written (a full disk, no permission); names ``path``, which is as it was before.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except BaseException as error:
        if not isinstance(error, NotADirectoryError):  # then there is nothing beside, and asking would raise again
            beside.unlink(missing_ok=True)
        reason = _write_error(error)
        if reason is not None:
            raise OSError(f"{path}: cannot be written ({reason})") from error
        raise


def write_text(path: str | Path, content: str) -> None:
    """Write a text file, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(content, encoding="utf-8")


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
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave the new name on an empty file


def use_atomic_checkpoints(trainer: Trainer) -> None:
    """Give a trainer :class:`AtomicCheckpointIO`, unless its strategy or its user chose another way to write."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def _write_error(error: BaseException | None) -> str | None:
    """Why nothing could be written, if that is what went wrong; torch hides it in the context of a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return None if error is None else error.strerror or str(error)
