"""The folder of a run: its model and its data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from itmatch.formats.configs import read_config
from itmatch.formats.messages import shown

if TYPE_CHECKING:
    from itmatch.data import DataSource
    from itmatch.models import MatchingModel


def source_of_run(run: Path, trusted: list[str]) -> DataSource:
    """Where the data of a run come from, as its configuration says; no code of a stranger's runs.

    Raises:
        FileNotFoundError: the run has no configuration.
        ValueError: the configuration names no data, or a class that is not admitted.
    """
    from itmatch.data import DataSource
    from itmatch.spec import build

    config = run / "config.yaml"
    settings = read_config(config).get("data")
    spec = settings.get("source") if isinstance(settings, dict) else None
    found = build(spec, DataSource, f"{config}: data.source", trusted_modules=trusted)
    if not isinstance(found, DataSource):
        raise ValueError(f"{config}: data.source is {shown(spec)}, expected a class_path and its init_args")
    return found


def model_of_run(run: Path, trusted: list[str]) -> MatchingModel:
    """The model of a run with the best weights, or the last ones where it kept no best.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: it is no checkpoint of ours, or names a class that is not admitted.
    """
    from itmatch.cli.running.checkpoint import read_model

    best, last = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    path = best if best.is_file() else last
    if not path.is_file():
        raise FileNotFoundError(f"{best}: no such file; the run kept no checkpoint")
    return read_model(str(path), trusted)
