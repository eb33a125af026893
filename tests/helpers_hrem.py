"""The arrays that the public code of HREM gives, and its modules with their weights."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from itmatch.nn import RegionEncoder, TransformerPooling
from itmatch.ops import lengths_to_mask


@cache
def _arrays():
    with np.load(Path(__file__).parent / "reference" / "hrem.npz", allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def reference(name):
    """An array of the file."""
    return _arrays()[name]


def beginning(start):
    """The arrays whose names begin so, without that beginning."""
    return {name.removeprefix(start): value for name, value in _arrays().items() if name.startswith(start)}


def pooling_of(side, **settings):
    """The pooling of a side, with its weights and without dropout."""
    pooling = TransformerPooling(32, num_heads=4, dropout=0.0, **settings)
    pooling.layer.load_state_dict(beginning(f"{side}_encoder.aggr.layers.0."))
    return pooling


def image_encoder(*, normalize):
    """The encoder of regions, with its weights, in evaluation mode."""
    encoder = RegionEncoder(40, 32, normalize=normalize, mlp=True, pooling=pooling_of("image"))
    encoder.fc.load_state_dict(beginning("image_encoder.fc.fc."))
    given = beginning("image_encoder.fc.mlp.")
    for place, name in ((0, "layers.0."), (1, "bns.0."), (3, "layers.1.")):
        encoder.mlp[place].load_state_dict({key.removeprefix(name): given[key] for key in given if name in key})
    return encoder.eval()


def mask_of(lengths, of):
    """Mask of some lengths, as wide as other arrays."""
    return lengths_to_mask(reference(lengths), reference(of).shape[1])
