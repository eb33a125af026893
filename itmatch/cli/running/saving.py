"""What ``itmatch fit`` writes into the folder of a run beside what Lightning does."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

from itmatch.cli.errors import warn
from itmatch.cli.running.checkpoint import settings_as_parsed
from itmatch.formats.files import write_text
from itmatch.formats.messages import reason
from itmatch.models import MatchingModel
from itmatch.pages.report.environment import environment
from itmatch.training import MatchingData
from itmatch.training.output.report import run_folder

_ENVIRONMENT = "environment.json"
_OF_LOGGER = ("hparams.yaml", "metrics.csv")  # what Lightning's logger may have written before the first batch


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml``, and ``environment.json`` of a training, into the folder of the run, whole or not at all.

    Nothing is written without a logger. A run that fails before its first batch leaves no folder.
    """

    _folder: str | None = None
    _new: Path | None = None  # the outermost folder that there was not before; None once a batch is done

    def note(self, trainer: Trainer) -> None:
        """See what there is before the logger makes folders."""
        folder = getattr(trainer.logger, "log_dir", None)
        if trainer.is_global_zero and folder is not None:
            missing = [place for place in (Path(folder), *Path(folder).parents) if not place.exists()]
            self._new = missing[-1] if missing else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, which takes all processes, and write."""
        self._folder = run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def _started(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if not trainer.sanity_checking:
            self._new = None

    on_train_batch_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _started

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove what is left of a start that failed: our files, and the folders that hold nothing else."""
        if self._new is None or self._folder is None:
            return
        place = Path(self._folder)
        for name in (self.config_filename, _ENVIRONMENT, *_OF_LOGGER):
            (place / name).unlink(missing_ok=True)
        with suppress(OSError):  # a folder with other files stays
            while place.is_relative_to(self._new):
                place.rmdir()
                place = place.parent

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the configuration, and what a training is made with."""
        if self._folder is not None:
            config = self.config.clone()
            config["model"] = settings_as_parsed(vars(config["model"]))
            write_text(Path(self._folder) / self.config_filename, self.parser.dump(config, skip_unset=False))
            if trainer.state.fn == "fit":
                content = {**environment(), "seed": str(config.get("seed_everything"))}
                write_text(Path(self._folder) / _ENVIRONMENT, json.dumps(content, indent=1))


def leave_report(trainer: Trainer, model: MatchingModel, data: MatchingData) -> None:
    """Write ``report.html`` and say where it is; a training does not fail because of its report."""
    folder = run_folder(trainer)
    if folder is not None:
        _write(folder, model, data)


@rank_zero_only
def _write(folder: str, model: MatchingModel, data: MatchingData) -> None:
    from itmatch.pages.report.writing import write_report

    try:
        print(f"report: {write_report(folder, model=model, split=data.dataset('test'))}")
    except Exception as error:
        warn(f"no report was written ({reason(error)})")
