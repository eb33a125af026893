"""Models of ``transformers`` that look at photos, and which photos can go through them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmatch.formats.hub.models import load_pretrained
from itmatch.formats.messages import reason


def load_model(auto_class: str, name: str, kind: str, device: str) -> Any:
    """A model for use, with weights of safetensors, on a device; raises as :func:`load_pretrained`."""
    model = load_pretrained(auto_class, name, kind, use_safetensors=True)
    return model.eval().requires_grad_(requires_grad=False).to(device)


def by_shape(values: Sequence[Tensor]) -> list[list[int]]:
    """The places of tensors of equal shape, group by group."""
    groups: dict[torch.Size, list[int]] = {}
    for place, value in enumerate(values):
        groups.setdefault(value.shape, []).append(place)
    return list(groups.values())


def device_of(name: str | None) -> str:
    """The device of a name; None = a GPU where there is one.

    Raises:
        ValueError: it is no device, or one that this machine does not have.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # as torch says it, in many lines
        raise ValueError(f"device: {name!r}, which this machine does not have ({reason(error)})") from error
    return name


def whole_path(name: Any) -> Any:
    """The whole path of a folder that is there; all else, such as a name of the Hub, as it is."""
    is_folder = isinstance(name, str) and name and Path(name).is_dir()
    return str(Path(name).absolute()) if is_folder else name
