"""Recalls as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

_DIRECTIONS = (("i2t", "image to text"), ("t2i", "text to image"))


def recall_table(metrics: Mapping[str, float], title: str | None = None) -> str:
    """The figures of :func:`itmatch.metrics.retrieval_metrics` as plain text; other entries are ignored.

    Args:
        metrics: figures by name; a direction's missing figure is shown as ``-``.
        title: line above the table.

    Raises:
        ValueError: no recall among the entries.

    Example:
        >>> from itmatch.metrics import RetrievalRanks, retrieval_metrics
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


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{float(value):.1f}"
