"""The two sides of a comparison, images and captions: their checks, and the type of their inner products."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.hostcopies import keep, on_host
from itmatch.ops.checks import check_choice, check_whole_or_none

Query = Literal["words", "regions"]


def check_query(query: str) -> None:
    """Raise unless this says which side's fragments get values."""
    check_choice("query", query, "words", "regions")


def real_or_all(mask: Tensor | None, features: Tensor) -> Tensor:
    """The mask (N, L) of fragments (N, L, D); None says that all of them are real."""
    if mask is not None:
        return mask
    made = features.new_ones(features.shape[:2], dtype=torch.bool)
    keep(made, torch.ones(features.shape[:2], dtype=torch.bool))
    return made


def check_sides(image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor, chunk_size: int | None) -> None:
    """Raise unless these are padded fragments of images and captions, in one space, some in every row."""
    for name, features, mask in (("image", image, image_mask), ("text", text, text_mask)):
        if features.ndim != 3 or mask.dtype != torch.bool or tuple(mask.shape) != tuple(features.shape[:2]):
            raise ValueError(
                f"{name}: features {tuple(features.shape)}, mask {tuple(mask.shape)} {mask.dtype}; "
                "expected (N, L, D) and (N, L) torch.bool"
            )
    if image.shape[2] != text.shape[2]:
        raise ValueError(f"embedding sizes differ: image {image.shape[2]}, text {text.shape[2]}")
    check_whole_or_none("chunk_size", chunk_size)
    for name, mask in (("image", image_mask), ("text", text_mask)):
        if not torch.compiler.is_compiling() and not bool(on_host(mask).any(1).all()):  # a graph cannot ask
            raise ValueError(f"{name}: row {int(mask.sum(1).argmin())} has no valid fragment")


def compute_dtype(image: Tensor, text: Tensor) -> torch.dtype:
    """The type of inner products: what CUDA autocast says, else at least float32: half products make scores tie."""
    dtype = torch.promote_types(image.dtype, text.dtype)
    if _autocast_chooses(image.device.type) and dtype != torch.float64:
        return torch.get_autocast_dtype(image.device.type)
    return torch.promote_types(dtype, torch.float32)


def device_kind(tensor: Tensor) -> str:
    """The name of the limits that suit the device of a tensor."""
    return "cpu" if tensor.device.type == "cpu" else "cuda"


def _autocast_chooses(kind: str) -> bool:
    return kind != "cpu" and torch.is_autocast_enabled(kind)  # half precision is far slower than float32 on most CPUs
