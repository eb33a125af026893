"""The report of a run as one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from itmatch.data import ImageTextSplit
from itmatch.evaluation import RetrievalRanks
from itmatch.formats.files import user_path, write_text
from itmatch.formats.messages import counted, reason, short
from itmatch.models import MatchingModel
from itmatch.pages.page import asset, page
from itmatch.pages.report.charts import bars, curves
from itmatch.pages.report.queries import queries_section
from itmatch.pages.report.record import RunRecord, read_run

_RANGES = ((0, 0), (1, 4), (5, 9), (10, 49), (50, 99), (100, 10**12))  # of ranks, from 0
_COLUMNS = ("r1", "r5", "r10", "medr", "meanr")
_DIRECTIONS = (("i2t", "image to text"), ("t2i", "text to image"))
_SHOWN = (
    "seed_everything", "model.image_encoder", "model.text_encoder", "model.similarity", "model.objective",
    "model.optimizer", "model.scheduler", "data.source", "data.batch_size", "trainer.max_epochs", "trainer.precision",
    "trainer.accelerator",
)  # fmt: skip


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    model: MatchingModel | None = None,
    split: ImageTextSplit | None = None,
    problems: Sequence[str] = (),
) -> Path:
    """Write the report of a run: recalls, curves, ranks, its best and worst queries, settings and environment.

    What is missing in the folder is named in the page.

    Args:
        folder: of the run.
        out: the file; None = ``report.html`` in the folder.
        model: with the weights that were tested; without it no queries are shown.
        split: that was tested; likewise.
        problems: what else is missing, a sentence each.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: no such run.
        OSError: the page cannot be written.
    """
    run = read_run(folder)
    for problem in problems:
        run.missing(problem)
    path = run.folder / "report.html" if out is None else user_path(out)
    write_text(path, report_page(run, model, split))
    return path


def report_page(run: RunRecord, model: MatchingModel | None = None, split: ImageTextSplit | None = None) -> str:
    """The page itself; see :func:`write_report`."""
    shown = _queries(run, model, split)
    body = [_head(run), _recalls(run), _charts(run), shown, _settings(run), _environment(run), _missing(run)]
    return page(f"Report of {run.folder.name}", "".join(body), style=asset("report.css"))


def _head(run: RunRecord) -> str:
    parts = [_class_of(run.settings, f"model.{part}") for part in ("image_encoder", "text_encoder", "similarity")]
    data = _class_of(run.settings, "data.source")
    told = " · ".join(part for part in parts if part) + (f" on {data}" if data else "")
    sub = f'<p class="itm-note">{escape(told)}</p>' if told else ""
    return f"<h1>Report of {escape(run.folder.name)}</h1>{sub}<p class='itm-note'>{escape(str(run.folder))}</p>"


def _recalls(run: RunRecord) -> str:
    figures = run.figures
    if not figures:
        return ""
    whole = {name: value for name, value in figures.items() if name.startswith(("i2t_", "t2i_")) or name == "rsum"}
    tables = [("", whole)] if whole else []
    used = set(whole)
    for name in sorted(name.removesuffix("_rsum") for name in figures if name.endswith("_rsum")):
        own = {key: value for key, value in figures.items() if key.startswith(f"{name}_")}
        used |= set(own)
        tables.append((name, {key.removeprefix(f"{name}_"): value for key, value in own.items()}))
    counts = (
        ""
        if run.ranks is None
        else f"{counted(len(run.ranks.image_ids), 'images')}, {counted(len(run.ranks.caption_image), 'captions')}"
    )
    told = f'<p class="itm-note">{counts}</p>' if counts else ""
    parts = ["<h2>Recalls of the test</h2>", told, *(_recall_table(name, table) for name, table in tables)]
    rest = [(name.replace("_", " "), f"{value:.1f}") for name, value in figures.items() if name not in used]
    return "".join(parts) + _pairs(rest)


def _recall_table(name: str, figures: Mapping[str, float]) -> str:
    columns = [column for column in _COLUMNS if any(f"{side}_{column}" in figures for side, _ in _DIRECTIONS)]
    heads = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "medr": "median rank", "meanr": "mean rank"}
    lines = ["".join(f'<th scope="col">{text}</th>' for text in ["", *(heads[column] for column in columns), "rSum"])]
    for i, (side, label) in enumerate(_DIRECTIONS):
        cells = [f'<th scope="row">{label}</th>', *(_cell(figures.get(f"{side}_{column}")) for column in columns)]
        cells.append(f'<td rowspan="2" class="itm-sum">{_figure(figures.get("rsum"))}</td>' if not i else "")
        lines.append("".join(cells))
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    caption = f"<caption>{escape(name)}</caption>" if name else ""
    return f'<table class="itm-recalls">{caption}{rows}</table>'


def _charts(run: RunRecord) -> str:
    def found(*names: str) -> dict[str, list[tuple[float, float]]]:
        return {name: run.curves[name] for name in names if name in run.curves}

    charts = [
        curves(title, series, "step")
        for title, series in (
            ("Loss of the training", found("train/loss")),
            ("rSum of the validation", found("val/rsum")),
            ("Recall at 1 of the validation, in percent", found("val/i2t_r1", "val/t2i_r1")),
        )
        if series
    ]
    if run.ranks is not None:
        charts.append(_histogram(run.ranks.ranks))
    return f'<h2>Curves and ranks</h2><div class="itm-charts">{"".join(charts)}</div>' if charts else ""


def _histogram(ranks: RetrievalRanks) -> str:
    """The share of the queries whose right answer has a rank of each range."""
    largest = int(max(ranks.image_to_text.max(), ranks.text_to_image.max()))
    ranges = [(low, high) for low, high in _RANGES if low <= largest]
    labels = [
        str(low + 1) if low == high else f"{low + 1}-{high + 1}" if high < 10**12 else f"over {low}"
        for low, high in ranges
    ]

    def shares(found: Tensor) -> list[float]:
        queries = found[found >= 0]
        return [100 * float(((queries >= low) & (queries <= high)).float().mean()) for low, high in ranges]

    sides = {
        label: shares(getattr(ranks, name))
        for name, label in zip(ranks._fields, dict(_DIRECTIONS).values(), strict=True)
    }
    return bars("Share of the queries by the rank of the right answer, in percent", labels, sides, "rank")


def _queries(run: RunRecord, model: MatchingModel | None, split: ImageTextSplit | None) -> str:
    if model is None or split is None:
        return ""
    if run.settings.get("ensemble"):
        run.missing("the ranks are those of an ensemble, the queries are shown as its first model sees them")
    try:
        return queries_section(run, model, split)
    except (OSError, ValueError, RuntimeError) as error:  # of a model of somebody's own, too
        run.missing(f"no queries are shown: {reason(error)}")
        return ""


def _settings(run: RunRecord) -> str:
    if not run.settings:
        return ""
    rows = [(name, _told(value)) for name in _SHOWN if (value := _setting(run.settings, name)) is not None]
    whole = f"<details><summary>config.yaml</summary><pre>{escape(run.config)}</pre></details>"
    return f"<h2>Settings</h2>{_pairs(rows)}{whole}"


def _environment(run: RunRecord) -> str:
    return f"<h2>Environment</h2>{_pairs(run.environment.items())}" if run.environment else ""


def _missing(run: RunRecord) -> str:
    lines = "".join(f"<li>{escape(problem)}</li>" for problem in run.problems)
    return f'<h2>Missing here</h2><ul class="itm-note">{lines}</ul>' if lines else ""


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<table class="itm-pairs">{lines}</table>' if lines else ""


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _class_of(settings: Mapping[str, Any], name: str) -> str:
    value = _setting(settings, name)
    path = value.get("class_path") if isinstance(value, dict) else None
    return short(path.rpartition(".")[2]) if isinstance(path, str) else ""


def _told(value: Any) -> str:
    """A setting in one line: of an object its class, and what it was given."""
    if not isinstance(value, dict):
        return short(str(value))
    name = str(value.get("class_path", "")).rpartition(".")[2]
    given = value.get("init_args")
    arguments = (
        []
        if not isinstance(given, dict)
        else [f"{key}={_told(one)}" for key, one in given.items() if one is not None and not isinstance(one, list)]
    )
    text = f"{name}({', '.join(arguments)})" if name else ", ".join(f"{key}={one}" for key, one in value.items())
    return text if len(text) <= 400 else f"{text[:400]}..."


def _cell(value: float | None) -> str:
    return f"<td>{_figure(value)}</td>"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
