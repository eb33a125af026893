"""What users give an index to hold."""

from __future__ import annotations

from typing import Any

from itmatch.data import DataSource, ImageTextSplit


def as_split(source: Any) -> ImageTextSplit:
    """Images and captions, as an index takes them.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(source, ImageTextSplit):
        return source
    if isinstance(source, DataSource):
        raise TypeError(f'source: a {type(source).__qualname__}, expected one of its splits: source.split("test")')
    expected = 'expected an ImageTextSplit, as RelationScenes().split("test") gives'
    raise TypeError(f"source: a {type(source).__qualname__}, {expected}")
