"""Safetensors files that may be damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itmatch.formats.files import existing_file
from itmatch.formats.messages import reason, shown

if TYPE_CHECKING:
    from torch import Tensor


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no safetensors file, a damaged one, or truth values that are neither 0 nor 1.
    """
    import torch

    path = existing_file(path)
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = dict(file.metadata() or {})
    for name, value in tensors.items():
        if value.dtype == torch.bool and bool((value.view(torch.uint8) > 1).any()):
            raise ValueError(f"{path}: {shown(name)} holds truth values that are neither 0 nor 1")
    return tensors, metadata


def safetensors_sizes(path: str | Path) -> list[int]:
    """The number of elements of each tensor of a safetensors file; nothing but its head is read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no safetensors file, or a damaged one.
    """
    with _opened(existing_file(path)) as file:
        return [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118 - not a mapping


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except Exception as error:  # the library has an error of its own, below Exception
        raise ValueError(f"{path}: no safetensors file, or a damaged one ({reason(error)})") from None


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as ``torch.save`` writes them, a zip file or, of old, a pickle."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")
