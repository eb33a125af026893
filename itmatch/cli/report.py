"""``itmatch report``: a page about a run."""

from __future__ import annotations

import warnings
from pathlib import Path

from itmatch.cli.running.runs import model_of_run, source_of_run
from itmatch.formats.files import user_path
from itmatch.formats.messages import reason


def report(run: Path, *, out: Path | None = None, trust: list[str] | None = None) -> None:
    """Write a page about a run: recalls, curves, ranks, its best and worst queries, settings, environment.

    The page is one file, which a browser opens without anything else. What the run lacks is named in it.

    Args:
        run: folder of the run.
        out: the file; the default is report.html in the folder of the run.
        trust: modules of your own that the checkpoint or the configuration of the run names.
    """
    from itmatch.pages.report.writing import write_report

    folder, trusted = user_path(run), trust or []
    problems: list[str] = []
    model = split = None
    if folder.is_dir():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a checkpoint that is not trained on
                split = source_of_run(folder, trusted).split("test")
                model = model_of_run(folder, trusted)
        except (OSError, ValueError, TypeError, ImportError) as error:
            problems.append(f"no queries are shown: {reason(error)}")
    print(f"written to {write_report(folder, out, model=model, split=split, problems=problems)}")
