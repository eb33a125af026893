"""The figures of a test, as a run writes them."""

from __future__ import annotations

from pathlib import Path

from itmatch.formats.files import read_json
from itmatch.formats.messages import shown

_LARGEST = 1e9  # of a figure: ranks of as many captions as nobody has


def read_figures(path: Path) -> dict[str, float]:
    """The figures of ``test_metrics.json``, by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else than finite numbers.
    """
    content = read_json(path)
    for name, value in content.items():
        if type(value) not in (int, float) or not abs(value) <= _LARGEST:  # NaN is not either
            found = f"{shown(name)} is {shown(value)}"
            raise ValueError(f"{path}: no figures of a test ({found}, expected a finite number)")
    return {name: float(value) for name, value in content.items()}
