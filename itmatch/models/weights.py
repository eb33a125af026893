"""Filling a model with the weights of a file, after a look at both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from itmatch.formats.messages import shown, shown_keys
from itmatch.formats.tensors import read_safetensors


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill a model with the weights of a safetensors file, which has to have all of them and no others.

    A weight that two parts of the model share stands once in the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no safetensors file, or a damaged one; weights of another model; NaN or an infinity in a weight.
    """
    fill_weights(model, read_safetensors(path)[0], path)


def fill_weights(model: nn.Module, found: Mapping[str, Tensor], path: str | Path) -> None:
    """Fill a model with all of its weights, and no others.

    Args:
        model: whose.
        found: the weights by name.
        path: of the file that they come from, for error messages.

    Raises:
        ValueError: weights of another model; NaN or an infinity in a weight.
    """
    own = model.state_dict()
    for name in found:
        if name in own:
            _check(name, own[name], found[name], path)
    there = {_place(own[name]) for name in found if name in own}
    missing = [name for name in own if name not in found and _place(own[name]) not in there]
    if missing:
        raise ValueError(f"{path}: no weight {shown_keys(missing)}; is this a file of another model?")
    more = [name for name in found if name not in own]
    if more:
        raise ValueError(f"{path}: has {shown_keys(more)}, for which the model has no place")
    model.load_state_dict(found, strict=False)


def _check(name: str, own: Tensor, found: Tensor, path: str | Path) -> None:
    if own.shape != found.shape or own.is_floating_point() != found.is_floating_point():
        raise ValueError(
            f"{path}: {shown(name)} is {found.dtype} of shape {tuple(found.shape)}, the model has {own.dtype} of shape "
            f"{tuple(own.shape)}"
        )
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise ValueError(f"{path}: {shown(name)} holds a NaN or an infinity")


def _place(weight: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    """Where a weight lies in memory; two names of one weight have the same."""
    return weight.data_ptr(), weight.shape, weight.stride()
