"""What ``itmatch fit`` leaves in the folder of a run beside what Lightning does."""

from __future__ import annotations

import json
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

from itmatch.cli.checkpoint import settings_as_parsed
from itmatch.cli.errors import warn
from itmatch.formats.files import write_text
from itmatch.formats.messages import reason
from itmatch.models import MatchingModel
from itmatch.training import MatchingData
from itmatch.training.report import run_folder


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the folder of the run, whole or not at all; nothing without a logger."""

    _folder: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, which takes all processes, and write."""
        self._folder = run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the configuration, and what the run is made with."""
        if self._folder is not None:
            config = self.config.clone()
            config["model"] = settings_as_parsed(vars(config["model"]))
            write_text(Path(self._folder) / self.config_filename, self.parser.dump(config, skip_none=False))
            if trainer.state.fn == "fit":
                from itmatch.pages.report.environment import environment

                content = json.dumps({**environment(), "seed": str(config.get("seed_everything"))}, indent=1)
                write_text(Path(self._folder) / "environment.json", content)


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
