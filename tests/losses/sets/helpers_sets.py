"""Arrays of the public code of sets and views."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

REFERENCE = Path(__file__).parents[2] / "reference"


@cache
def _arrays(file):
    with np.load(REFERENCE / file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def reference(file, name):
    """An array of a file."""
    return _arrays(file)[name]


def leaf(file, name):
    """An array that takes a gradient."""
    return reference(file, name).clone().requires_grad_()


def close(value, expected):
    """Equal to 1e-5 of the largest number that is expected, or of 1."""
    assert value.shape == expected.shape
    assert (value.detach() - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item())
