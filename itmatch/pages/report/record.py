"""What the folder of a run holds; it may come from somebody else, and parts of it may be missing."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from itmatch.evaluation.results.runs import StoredRanks, read_figures, read_ranks
from itmatch.formats.configs import read_config
from itmatch.formats.files import read_json, read_text, user_path
from itmatch.formats.messages import reason, short, shown
from itmatch.formats.nearby import near

_MOST_CHARACTERS = 256 << 20  # of a log
Content = TypeVar("Content")


@dataclass
class RunRecord:
    """What is known of a run.

    Args:
        folder: of the run.
        figures: of the test, by name.
        curves: points (step, value) of what was logged, by name.
        settings: of the configuration.
        config: the configuration as text.
        ranks: of every query of the test.
        environment: what the run was made with.
        problems: what is missing or cannot be read, a sentence each.
    """

    folder: Path
    figures: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    ranks: StoredRanks | None = None
    environment: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def missing(self, problem: str) -> None:
        """Note what is missing."""
        self.problems.append(problem)


def read_run(folder: str | Path) -> RunRecord:
    """Read what there is.

    Raises:
        FileNotFoundError: no such folder, or none of the files of a run in it.
    """
    folder, files = user_path(folder), ("config.yaml", "metrics.csv", "test_metrics.json")
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: {found}, expected the folder of a run{near(folder, 'one', *files)}")
    if not any((folder / name).is_file() for name in files):
        raise FileNotFoundError(f"{folder}: no run, it has none of {', '.join(files)}{near(folder, 'one', *files)}")
    run = RunRecord(folder)
    run.figures = _read(run, "test_metrics.json", read_figures, {}, "no recalls; itmatch test writes them")
    run.ranks = _read(run, "test_ranks.npz", read_ranks, None, "no ranks; a test of a whole split writes them")
    run.curves = _read(run, "metrics.csv", read_log, {}, "no curves; SafeCSVLogger, the default logger, writes it")
    run.settings = _read(run, "config.yaml", read_config, {}, "no settings")
    run.config = _read(run, "config.yaml", read_text, "", "")
    run.environment = _read(run, "environment.json", _read_environment, {}, "what the run was made with is not known")
    return run


def _read(run: RunRecord, name: str, read: Callable[[Path], Content], instead: Content, told: str) -> Content:
    path = run.folder / name
    if not path.is_file():
        if told:
            run.missing(f"{name} is missing: {told}")
        return instead
    try:
        return read(path)
    except (OSError, ValueError) as error:
        if told:
            run.missing(reason(error))
        return instead


def read_log(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The points (step, value) of every column of ``metrics.csv``; numbers that are not finite are left out.

    Raises:
        ValueError: no such log.
    """
    if path.stat().st_size > _MOST_CHARACTERS:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, expected at most {_MOST_CHARACTERS}")
    lines = csv.reader(read_text(path).splitlines())
    try:
        heads = next(lines, [])
        if "step" not in heads:
            raise ValueError(f"{path}: no column step in it, expected the log of a run")
        step, points = heads.index("step"), {head: list[tuple[float, float]]() for head in heads}
        for cells in lines:
            at = _finite(cells[step]) if step < len(cells) else None
            for head, cell in zip(heads, cells, strict=False):
                value = _finite(cell)
                if at is not None and value is not None:
                    points[head].append((at, value))
    except csv.Error as error:
        raise ValueError(f"{path}:{lines.line_num}: {reason(error)}") from None
    return {head: found for head, found in points.items() if found and head not in ("step", "epoch")}


def _finite(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_environment(path: Path) -> dict[str, str]:
    content = read_json(path)
    return {
        short(str(name)): short(value if isinstance(value, str) else shown(value)) for name, value in content.items()
    }
