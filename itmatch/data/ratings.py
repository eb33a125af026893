"""What people think of captions of images: ratings of pairs, from a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from itmatch.formats.files import existing_file
from itmatch.formats.messages import shown, shown_keys
from itmatch.formats.text import read_lines

_TABS = (".tsv", ".txt")


@dataclass(frozen=True)
class RatedPair:
    """An image, a caption, and how well it describes the image in the eyes of people.

    Args:
        image: its id, or the name of its file.
        caption: its text.
        ratings: one or several numbers, the higher the better.
    """

    image: str
    caption: str
    ratings: tuple[float, ...]


def read_ratings(path: str | Path) -> list[RatedPair]:
    """The rated pairs of a table: csv, or tsv or txt with tabs; its first line names the columns.

    Columns are ``image``, ``caption``, and one or several whose names begin with ``rating``. A cell may hold several
    ratings with blanks or semicolons between them. An empty cell is a rating that nobody gave. Other columns are not
    read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing; a row has no image, no caption or no rating, or one that is no finite number;
            names the file and the row. Or there are no rows.
    """
    table = csv.DictReader(read_lines(existing_file(path)), delimiter="\t" if Path(path).suffix in _TABS else ",")
    columns = [str(name).strip() for name in table.fieldnames or ()]
    table.fieldnames = columns
    rated = [name for name in columns if name.startswith("rating")]
    if not {"image", "caption"} <= set(columns) or not rated:
        raise ValueError(f"{path}: columns {shown_keys(columns)}; expected image, caption and rating, or rating_1 ...")
    try:
        pairs = [_pair(row, rated, f"{path}: row {number}") for number, row in enumerate(table, 1)]
    except csv.Error as error:
        raise ValueError(f"{path}: line {table.line_num}: {error}") from error
    if not pairs:
        raise ValueError(f"{path}: no rows below the names of the columns")
    return pairs


def _pair(row: dict[str, str | None], rated: Sequence[str], where: str) -> RatedPair:
    image, caption = ((row[name] or "").strip() for name in ("image", "caption"))
    for name, text in (("image", image), ("caption", caption)):
        if not text:
            raise ValueError(f"{where}: no {name}")
    cells = [(row[name] or "").replace(";", " ").split() for name in rated]
    ratings = tuple(_number(text, where) for cell in cells for text in cell)
    if not ratings:
        raise ValueError(f"{where}: no rating in {', '.join(rated)}")
    return RatedPair(image, caption, ratings)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: rating {shown(text)}, expected a number that is finite; leave out what is unknown")
    return value
