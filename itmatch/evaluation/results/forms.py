"""The forms of a table of results: plain text, Markdown, LaTeX, comma-separated values."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import NamedTuple

from itmatch.evaluation.results.figures import Spread, best_of, heading


class ResultRow(NamedTuple):
    """One line of a table.

    Args:
        label: what stands first.
        figures: by name; of several runs their mean and standard deviation.
        key: BibTeX key of a publication.
        runs: how many runs there are behind the figures, if any.
    """

    label: str
    figures: Mapping[str, float | Spread]
    key: str = ""
    runs: int | None = None


class ResultGroup(NamedTuple):
    """Lines that may be compared with one another.

    Args:
        title: what they have in common; ``""`` for no title.
        rows: the lines.
        figures: names of the figures to show, in this order; what no row of a table has is left out.
    """

    title: str
    rows: list[ResultRow]
    figures: list[str]


def shown_figure(value: float | Spread | None, plus_minus: str = "±") -> str:
    """A figure with one decimal, its standard deviation beside it, or ``-``."""
    if isinstance(value, Spread):
        return f"{value.mean:.1f} {plus_minus} {value.deviation:.1f}"
    return "-" if value is None else f"{float(value):.1f}"


def text_of(groups: Sequence[ResultGroup], *, mark_best: bool) -> str:
    """Aligned columns, ``*`` behind the best values."""
    names = _columns(groups)
    room = " " if mark_best else ""  # where a best value has its star
    bodies = []
    for group in groups:
        cells = _cells(group, names, lambda cell, best: cell + ("*" if best else room), mark_best=mark_best)
        bodies.append([[row.label, *line] for row, line in zip(group.rows, cells, strict=True)])
    heads = ["", *(heading(name) + room for name in names)]
    lines = [heads, *(line for body in bodies for line in body)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]

    def aligned(line: list[str]) -> str:
        cells = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([line[0].ljust(widths[0]), *cells]).rstrip()

    printed = [aligned(heads)]
    rule = "-" * max(map(len, map(aligned, lines)))
    for group, body in zip(groups, bodies, strict=True):
        printed += [rule, group.title] if group.title else []
        printed += map(aligned, body)
    return "\n".join(printed)


def markdown_of(group: ResultGroup, *, mark_best: bool) -> str:
    """One group as a table with its title above, the best values in bold."""
    names = _columns([group])
    cells = _cells(group, names, lambda cell, best: f"**{cell}**" if best else cell, mark_best=mark_best)
    rows = [[row.label.replace("|", r"\|"), *line] for row, line in zip(group.rows, cells, strict=True)]
    heads = ["", *map(heading, names)]
    lines = ["| " + " | ".join(line) + " |" for line in (heads, *rows)]
    title = [group.title, ""] if group.title else []
    return "\n".join([*title, lines[0], "|" + "---|" * len(heads), *lines[1:]])


def latex_of(groups: Sequence[ResultGroup], *, mark_best: bool) -> str:
    """A ``tabular`` with the rules of booktabs, the best values in bold, a citation behind the published."""
    names = _columns(groups)
    heads = " & ".join(["", *(_escaped(heading(name)) for name in names)])
    lines = [rf"\begin{{tabular}}{{l{'r' * len(names)}}}", r"\toprule", heads + r" \\"]
    for group in groups:
        lines.append(r"\midrule")
        if group.title:
            lines.append(rf"\multicolumn{{{len(names) + 1}}}{{l}}{{\textit{{{_escaped(group.title)}}}}} \\")
        marked = _cells(group, names, _bold, mark_best=mark_best, plus_minus=r"$\pm$")
        for row, cells in zip(group.rows, marked, strict=True):
            label = _escaped(row.label) + (rf"~\cite{{{row.key}}}" if row.key else "")
            lines.append(" & ".join([label, *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def csv_of(groups: Sequence[ResultGroup]) -> str:
    """A line per row, with its group; a standard deviation in a column of its own, behind that of its mean."""
    rows = [row for group in groups for row in group.rows]
    shown = dict.fromkeys(name for group in groups for name in group.figures)
    columns = []
    for name in (name for name in shown if any(name in row.figures for row in rows)):
        columns.append(name)
        if any(isinstance(row.figures.get(name), Spread) for row in rows):
            columns.append(f"{name}_sd")
    written = StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["group", "label", "runs", "key", *columns])
    for group in groups:
        for row in group.rows:
            values: dict[str, float] = {}
            for name, value in row.figures.items():
                if name in group.figures:
                    values[name] = value.mean if isinstance(value, Spread) else value
                    values |= {f"{name}_sd": value.deviation} if isinstance(value, Spread) else {}
            cells = [f"{float(values[name]):.4f}" if name in values else "" for name in columns]
            table.writerow([group.title, row.label, "" if row.runs is None else row.runs, row.key, *cells])
    return written.getvalue().rstrip("\n")


def _bold(cell: str, best: bool) -> str:  # noqa: FBT001
    return rf"\textbf{{{cell}}}" if best else cell


def _columns(groups: Sequence[ResultGroup]) -> list[str]:
    rows = [row for group in groups for row in group.rows]
    return [name for name in groups[0].figures if any(name in row.figures for row in rows)]


def _cells(
    group: ResultGroup,
    names: Sequence[str],
    mark: Callable[[str, bool], str],
    *,
    mark_best: bool,
    plus_minus: str = "±",
) -> list[list[str]]:
    """The figures of every row as they are shown; ``mark`` is told of each whether it is the best of its column."""
    best = {name: _best(group, name) if mark_best else None for name in names}
    lines = []
    for row in group.rows:
        line = []
        for name in names:
            value = row.figures.get(name)
            cell = shown_figure(value, plus_minus)
            is_best = value is not None and _rounded(value) == best[name]
            line.append(mark(cell, is_best))
        lines.append(line)
    return lines


def _best(group: ResultGroup, name: str) -> float | None:
    values = [_rounded(row.figures[name]) for row in group.rows if name in row.figures]
    return best_of(name, values) if len(values) > 1 else None


def _rounded(value: float | Spread) -> float:
    """As it is shown: what looks the same is the same."""
    return float(f"{float(value.mean if isinstance(value, Spread) else value):.1f}")


def _escaped(text: str) -> str:
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return "".join(named.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text)
