"""Splits whose images have no captions: galleries, and texts to search them with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmatch.data.sources.layout import Layout
from itmatch.formats.arrays import Array
from itmatch.formats.text import read_lines


@dataclass(frozen=True)
class SplitTexts:
    """The texts of a split.

    Args:
        path: the file that they are in, or would be in.
        lines: the texts, without blanks at their ends; none where there is no such file.
        describe: whether they are captions of the images; otherwise the images are a gallery.
    """

    path: Path
    lines: list[str]
    describe: bool


def read_texts(where: Path) -> SplitTexts:
    """The texts of a split: ``{where}_caps.txt``, captions of its images; or ``{where}_queries.txt``, of none of them.

    There need not be either file.

    Raises:
        ValueError: both are there.
    """
    captions, queries = Path(f"{where}_caps.txt"), Path(f"{where}_queries.txt")
    if captions.exists() and queries.exists():
        raise ValueError(f"{queries}: beside {captions.name}, whose captions are the queries; expected one of the two")
    path = queries if queries.exists() else captions
    lines = [line.strip() for line in read_lines(path)] if path.exists() else []
    return SplitTexts(path, lines, describe=captions.exists())


def gallery_layout(features: Array, num_queries: int, ids: list[str] | None, where: str) -> Layout:
    """The layout of images without captions: a row and, where there are ids, an id for each.

    Args:
        features: (rows, R, F).
        num_queries: texts that describe none of the images.
        ids: lines of the ids file; None = no such file.
        where: path of the split without the endings, for error messages.

    Raises:
        ValueError: the numbers do not agree.
    """
    if 0 in features.shape:
        raise ValueError(f"{where}_ims.npy: shape {features.shape}, expected images, regions and numbers of each")
    if ids is not None and len(ids) != len(features):
        raise ValueError(
            f"{where}_ids.txt: {len(ids)} ids, expected {len(features)}, one per row of _ims.npy, as there is no "
            f"{Path(where).name}_caps.txt"
        )
    return Layout(len(features), None, np.full(num_queries, -1), ids)
