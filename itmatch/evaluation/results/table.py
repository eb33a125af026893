"""Recalls as tables: of one test for the terminal, of many as papers have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from itmatch.evaluation.results.figures import DIRECTIONS, RECALLS, Spread, by_protocol
from itmatch.evaluation.results.forms import (
    ResultGroup,
    ResultRow,
    csv_of,
    latex_of,
    markdown_of,
    shown_figure,
    text_of,
)
from itmatch.ops.checks import check_choice

FORMS = ("text", "markdown", "latex", "csv")


def recall_table(metrics: Mapping[str, float], title: str | None = None) -> str:
    """The figures of :func:`itmatch.evaluation.retrieval_metrics` as plain text; other entries are ignored.

    Args:
        metrics: figures by name; a direction's missing figure is shown as ``-``.
        title: line above the table.

    Raises:
        ValueError: no recall among the entries.

    Example:
        >>> from itmatch.evaluation import RetrievalRanks, retrieval_metrics
        >>> import torch
        >>> ranks = RetrievalRanks(torch.tensor([0, 7]), torch.tensor([0, 0, 2, 0]))
        >>> print(recall_table(retrieval_metrics(ranks), title="test"))
        test
                          R@1     R@5    R@10    medR   meanR
        image to text    50.0    50.0   100.0     4.0     4.5
        text to image    75.0   100.0   100.0     1.0     1.5
        rSum            475.0
    """
    ks = sorted({int(name[5:]) for name in metrics if name[:5] in ("i2t_r", "t2i_r") and name[5:].isdecimal()})
    if not ks:
        raise ValueError(f"recall_table: no i2t_r or t2i_r figure among {sorted(metrics)}")
    columns = [(f"r{k}", f"R@{k}") for k in ks] + [("medr", "medR"), ("meanr", "meanR")]
    rows = [("", [header for _, header in columns])]
    for prefix, label in DIRECTIONS:
        rows.append((label, [shown_figure(metrics.get(f"{prefix}_{name}")) for name, _ in columns]))
    if "rsum" in metrics:
        rows.append(("rSum", [shown_figure(metrics["rsum"])]))
    width = max(7, *(len(cell) for _, cells in rows for cell in cells))
    lines = [f"{label:<13}" + "".join(f" {cell:>{width}}" for cell in cells) for label, cells in rows]
    return "\n".join([title, *lines] if title else lines)


def results_table(
    rows: Mapping[str, Mapping[str, float | Spread]],
    form: str = "text",
    figures: Sequence[str] | None = None,
    *,
    mark_best: bool = False,
) -> str:
    """Results of several models, a line each: R@K of both directions and rSum.

    Args:
        rows: figures of each model, by its name; a missing one is shown as ``-``. Columns that nobody has are left out.
            Recalls with the name of a protocol before theirs, ``coco_1k_i2t_r1``, get columns of their own.
        form: ``"text"``, ``"markdown"``, ``"latex"`` (a ``tabular`` with the rules of booktabs) or ``"csv"``.
        figures: names of others to show instead, such as ``"eccv_i2t_map_at_r"``.
        mark_best: the best value of a column is bold, and has a ``*`` in plain text; see :func:`grouped_table`.

    Raises:
        ValueError: no rows, or another form.

    Example:
        >>> print(results_table({"CHAN": {"i2t_r1": 80.6, "t2i_r1": 63.9, "rsum": 518.5}}, "markdown"))
        |  | i2t R@1 | t2i R@1 | rSum |
        |---|---|---|---|
        | CHAN | 80.6 | 63.9 | 518.5 |
    """
    if not rows:
        raise ValueError("results_table: no rows")
    protocols = dict.fromkeys(protocol for row in rows.values() for protocol in by_protocol(row))
    recalls = [f"{protocol}_{name}" if protocol else name for protocol in protocols for name in RECALLS]
    group = ResultGroup("", [ResultRow(label, row) for label, row in rows.items()], list(figures or recalls))
    return grouped_table([group], form, mark_best=mark_best)


def grouped_table(groups: Sequence[ResultGroup], form: str = "text", *, mark_best: bool = True) -> str:
    """Results in groups that are not to be compared with one another, with a rule between them.

    Groups that show the same figures stand below one another in one table. The best value of a column in its group is
    bold, ``*`` in plain text; it is not marked in a csv. Of values that look the same, with one decimal, all are
    marked; a value that is the only one of its column is not.

    Args:
        groups: their rows, and the names of the figures to show.
        form: ``"text"``, ``"markdown"``, ``"latex"`` or ``"csv"``.
        mark_best: whether the best values are marked.

    Raises:
        ValueError: no group, or another form.

    Example:
        >>> rows = [ResultRow("CHAN", {"rsum": 518.5}), ResultRow("SGRAF", {"rsum": 499.6})]
        >>> print(grouped_table([ResultGroup("Flickr30K", rows, ["rsum"])]))
                rSum
        -------------
        Flickr30K
        CHAN   518.5*
        SGRAF  499.6
    """
    check_choice("form", form, *FORMS)
    if not groups:
        raise ValueError("grouped_table: no groups")
    if form == "csv":
        return csv_of(groups)
    if form == "markdown":
        return "\n\n---\n\n".join(markdown_of(group, mark_best=mark_best) for group in groups)
    of_form = latex_of if form == "latex" else text_of
    tables = [list(alike) for _, alike in groupby(groups, key=lambda group: tuple(group.figures))]
    return "\n\n".join(of_form(table, mark_best=mark_best) for table in tables)
