"""Published results, as data."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import NamedTuple

from itmatch.ops.checks import check_several


class PublishedResult(NamedTuple):
    """Recalls that a paper, or the public repository of its authors, reports.

    Args:
        model: name.
        text: text backbone.
        ensemble: of two models.
        protocol: ``"flickr30k"``, ``"coco_1k"`` or ``"coco_5k"``.
        figures: ``i2t_r1`` ... ``t2i_r10``, as far as they are reported, and ``rsum``, their sum, if all are.
        source: where they stand.
        key: of the publication, in :func:`bibtex`.
    """

    model: str
    text: str
    ensemble: bool
    protocol: str
    figures: dict[str, float]
    source: str
    key: str

    @property
    def label(self) -> str:
        """Name, text backbone, and whether it is an ensemble."""
        return f"{self.model} ({self.text}{', ensemble' if self.ensemble else ''})"


def published_results(protocol: str | None = None) -> list[PublishedResult]:
    """Results on region features unless the source says otherwise; of one protocol, or of all.

    Example:
        >>> found = published_results("flickr30k")
        >>> [result.figures["rsum"] for result in found if result.model == "CHAN"]
        [507.7, 518.5]
    """
    rows = list(csv.DictReader(_content("published.csv").splitlines()))
    found = []
    for row in rows:
        names = [name for name in row if name.startswith(("i2t_", "t2i_"))]
        figures = {name: float(row[name]) for name in names if row[name]}
        if len(figures) == len(names):
            figures["rsum"] = round(sum(figures.values()), 1)
        ensemble = row["ensemble"] == "yes"
        found.append(
            PublishedResult(row["model"], row["text"], ensemble, row["protocol"], figures, row["source"], row["key"])
        )
    known = list(dict.fromkeys(result.protocol for result in found))
    if protocol is not None and protocol not in known:
        raise ValueError(f"protocol: {protocol!r}, expected one of {', '.join(known)}")
    return [result for result in found if protocol in (None, result.protocol)]


def bibtex(keys: Iterable[str]) -> str:
    """The BibTeX entries of published results, each once, in the order in which they are asked for.

    The keys are those that the authors' repositories give.

    Raises:
        ValueError: there is no entry of that key.

    Example:
        >>> print(bibtex(["pan2023chan"]).splitlines()[0])
        @inproceedings{pan2023chan,
    """
    entries = {}
    for entry in _content("published.bib").strip().split("\n\n"):
        if match := re.match(r"@\w+\{([^,]+),", entry):
            entries[match[1]] = entry
    asked = list(dict.fromkeys(check_several("keys", keys)))
    for key in asked:
        if key not in entries:
            raise ValueError(f"key: {key!r}, expected one of {', '.join(entries)}")
    return "\n\n".join(entries[key] for key in asked)


def _content(name: str) -> str:
    return files("itmatch.evaluation.results").joinpath(name).read_text(encoding="utf-8")
