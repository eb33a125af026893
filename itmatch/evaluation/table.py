"""Recalls as tables: of one test for the terminal, of many as papers have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from itmatch.ops.checks import check_choice

FORMS = ("text", "markdown", "latex")
_DIRECTIONS = (("i2t", "image to text"), ("t2i", "text to image"))


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
    for prefix, label in _DIRECTIONS:
        rows.append((label, [_cell(metrics.get(f"{prefix}_{name}")) for name, _ in columns]))
    if "rsum" in metrics:
        rows.append(("rSum", [_cell(metrics["rsum"])]))
    width = max(7, *(len(cell) for _, cells in rows for cell in cells))
    lines = [f"{label:<13}" + "".join(f" {cell:>{width}}" for cell in cells) for label, cells in rows]
    return "\n".join([title, *lines] if title else lines)


def results_table(
    rows: Mapping[str, Mapping[str, float]], form: str = "text", figures: Sequence[str] | None = None
) -> str:
    """Results of several models, a line each: R@K of both directions and rSum.

    Args:
        rows: figures of each model, by its name; a missing one is shown as ``-``. Columns that nobody has are left out.
        form: ``"text"``, ``"markdown"`` or ``"latex"`` (a ``tabular`` with the rules of booktabs).
        figures: names of others to show instead, such as ``"eccv_i2t_map_at_r"``.

    Raises:
        ValueError: no rows, or another form.

    Example:
        >>> print(results_table({"CHAN": {"i2t_r1": 80.6, "t2i_r1": 63.9, "rsum": 518.5}}, "markdown"))
        |  | i2t R@1 | t2i R@1 | rSum |
        |---|---|---|---|
        | CHAN | 80.6 | 63.9 | 518.5 |
    """
    check_choice("form", form, *FORMS)
    if not rows:
        raise ValueError("results_table: no rows")
    recalls = [f"{direction}_r{k}" for direction, _ in _DIRECTIONS for k in (1, 5, 10)] + ["rsum"]
    names = [name for name in (figures or recalls) if any(name in row for row in rows.values())]
    heads = ["", *(_head(name) for name in names)]
    cells = [[label, *(_cell(row.get(name)) for name in names)] for label, row in rows.items()]
    if form == "markdown":
        cells = [[label.replace("|", r"\|"), *figures] for label, *figures in cells]
        lines = [heads, ["---"] * len(heads), *cells]
        rule = "|" + "|".join(lines[1]) + "|"
        return "\n".join(rule if line is lines[1] else "| " + " | ".join(line) + " |" for line in lines)
    if form == "latex":
        body = [" & ".join(_escaped(cell) for cell in line) + r" \\" for line in (heads, *cells)]
        columns = "l" + "r" * len(names)
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                body[0],
                r"\midrule",
                *body[1:],
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )
    widths = [max(len(line[i]) for line in (heads, *cells)) for i in range(len(heads))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in (heads, *cells)
    )


def _head(name: str) -> str:
    *before, last = name.split("_", 2) if name.startswith(("eccv_", "cxc_")) else name.split("_", 1)
    if last[:1] == "r" and last[1:].isdecimal():
        last = f"R@{last[1:]}"
    benchmark = {"eccv": "ECCV", "cxc": "CxC", "pmrp": "PMRP", "rsum": "rSum"}
    last = {"map_at_r": "mAP@R", "rprecision": "R-Precision", "rsum": "rSum"}.get(last, last)
    return " ".join([*(benchmark.get(part, part) for part in before), last])


def _escaped(text: str) -> str:
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(named.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{float(value):.1f}"
