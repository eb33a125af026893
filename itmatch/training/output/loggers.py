"""The log of a run as a CSV file, and which steps go into it."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from torch import Tensor

from itmatch.formats.files import written_beside
from itmatch.tensordata import readable


def is_logged(trainer: Trainer | None) -> bool:
    """Whether the step that is being taken goes into the log, and figures of it are worth computing."""
    return trainer is not None and trainer._logger_connector.should_update_logs


def is_shown(trainer: Trainer | None, loss: Tensor) -> bool:
    """Whether a progress bar gets the loss of this step; Lightning reads it at once, which on a GPU waits for it."""
    return readable(loss) or is_logged(trainer) or (trainer is not None and trainer.is_last_batch)


class SafeCSVLogger(CSVLogger):
    """Lightning's CSVLogger, which leaves ``metrics.csv`` as it was when the disk is full, and names it.

    Args:
        save_dir: folder of all runs.
        kwargs: see ``lightning.pytorch.loggers.CSVLogger``.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the file."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir) if "://" not in self.log_dir else ExperimentWriter(self.log_dir)
        return self._experiment  # type: ignore[return-value]


class _Writer(ExperimentWriter):
    """Adds rows to a local file; a part of one never stays."""

    def save(self) -> None:
        """Add the rows that are new.

        Raises:
            OSError: they cannot be written; names the file, which is as it was before.
        """
        path = Path(self.metrics_file_path)
        size = path.stat().st_size if path.is_file() else None
        try:
            super().save()
        except OSError as error:
            if size is None:
                path.unlink(missing_ok=True)
            elif path.stat().st_size > size:
                os.truncate(path, size)
            if error.strerror is None:  # which file it is has been said
                raise
            raise OSError(f"{path}: cannot be written ({error.strerror})") from error

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames)
            writer.writeheader()
            writer.writerows(rows)
