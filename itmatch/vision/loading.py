"""Models of ``transformers`` that look at photos, and which photos can go through them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from itmatch.formats.hub.models import load_pretrained


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
