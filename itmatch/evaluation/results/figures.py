"""Names of figures: of which protocol they are, how tables head them, and which of two values is better."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

DIRECTIONS = (("i2t", "image to text"), ("t2i", "text to image"))
RECALLS = (*(f"{direction}_r{k}" for direction, _ in DIRECTIONS for k in (1, 5, 10)), "rsum")
PROTOCOL_TITLES = {
    "flickr30k": "Flickr30K",
    "coco_1k": "COCO 1K",
    "coco_5k": "COCO 5K",
    "eccv": "ECCV",
    "cxc": "CxC",
    "pmrp": "PMRP",
}
_MEASURES = {
    "map_at_r": "mAP@R",
    "rprecision": "R-Precision",
    "rsum": "rSum",
    "rsum_std": "rSum std",
    "medr": "medR",
    "meanr": "meanR",
}
# what stands before a direction or rSum is the name of a protocol
_NAME = re.compile(
    r"(?:(?!i2t_|t2i_)(?P<protocol>.+?)_)?(?:(?P<way>i2t|t2i)(?:_(?P<measure>.+))?|(?P<sum>rsum(?:_std)?))"
)


class Spread(NamedTuple):
    """A figure of several runs.

    Args:
        mean: over the runs.
        deviation: sample standard deviation, with n - 1 below.
        runs: n, two or more.
    """

    mean: float
    deviation: float
    runs: int


def spread_over(values: Sequence[float]) -> Spread | float:
    """Mean and sample standard deviation of the values of several runs; of one run its value.

    Example:
        >>> spread_over([1.0, 2.0, 6.0])
        Spread(mean=3.0, deviation=2.6457513110645907, runs=3)
    """
    if len(values) == 1:
        return values[0]
    return Spread(statistics.mean(values), statistics.stdev(values), len(values))


def by_protocol(figures: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Figures of each protocol, without its name before theirs; those without a name come under ``""``.

    Example:
        >>> by_protocol({"rsum": 300.0, "coco_1k_rsum": 400.0, "coco_1k_rsum_std": 2.0})
        {'': {'rsum': 300.0}, 'coco_1k': {'rsum': 400.0, 'rsum_std': 2.0}}
    """
    named = {match["protocol"] for name in figures if (match := _NAME.fullmatch(name)) and match["protocol"]}
    starts = sorted(named, key=len, reverse=True)
    found: dict[str, dict[str, T]] = {}
    for name, value in figures.items():
        start = next((start for start in starts if name.startswith(f"{start}_")), "")
        found.setdefault(start, {})[name[len(start) + 1 :] if start else name] = value
    return found


def heading(name: str) -> str:
    """How a table heads the column of a figure.

    Example:
        >>> heading("coco_1k_i2t_r1"), heading("eccv_t2i_map_at_r"), heading("t2i_medr")
        ('COCO 1K i2t R@1', 'ECCV t2i mAP@R', 't2i medR')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return name.replace("_", " ")
    protocol, measure = match["protocol"] or "", match["measure"] or match["sum"] or ""
    if measure[:1] == "r" and measure[1:].isdecimal():
        measure = f"R@{measure[1:]}"
    parts = (PROTOCOL_TITLES.get(protocol, protocol), match["way"] or "", _MEASURES.get(measure, measure))
    return " ".join(part for part in parts if part)


def best_of(name: str, values: Sequence[float]) -> float | None:
    """The best value of a figure: the largest, or the smallest of ranks; None where neither is better.

    Example:
        >>> best_of("rsum", [500.0, 510.0]), best_of("i2t_medr", [1.0, 2.0]), best_of("rsum_std", [1.0, 2.0])
        (510.0, 1.0, None)
    """
    if name.endswith("rsum_std"):
        return None
    return min(values) if name.endswith(("_medr", "_meanr")) else max(values)
