"""Score matrices with the values and gradients that the public code of robust losses gives."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

MATRICES = ["random", "perfect", "several", "collapsed", "negative"]


@cache
def _arrays():
    with np.load(Path(__file__).parent / "reference" / "robust_losses.npz", allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def reference(name):
    """An array of the file."""
    return _arrays()[name]


def is_reference(name):
    """Whether the file has an array of that name."""
    return name in _arrays()


def robust(matrix, *names):
    """Scores that take a gradient, the mask of pairs with equal ids, and some arrays."""
    ids = reference(f"ids.{matrix}")
    return reference(f"scores.{matrix}").clone().requires_grad_(), ids[:, None] == ids, *map(reference, names)


def close(value, expected):
    """Equal to 1e-5 of the largest number that is expected, or of 1."""
    bound = 1e-5 * max(1.0, expected.abs().max().item())
    assert (value.detach() - expected).abs().max() <= bound
