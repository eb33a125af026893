"""A photo as the regions of a model that looks at photos itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from itmatch.batch import Regions
from itmatch.data import PatchFeatures
from itmatch.formats.arrays import Array
from itmatch.models import MatchingModel
from itmatch.nn import ClipImageEncoder


def photo_regions(model: MatchingModel, path: Path) -> tuple[Regions, Array]:
    """The patches of a photo as CLIP or SigLIP takes them, and their boxes (P, 4) in the whole photo.

    Raises:
        ValueError: the model looks at features of regions, not at photos.
        FileNotFoundError: no such file.
    """
    if not takes_photos(model):
        raise ValueError(
            f"{path}: a photo, and {type(model.image_encoder).__name__} takes features of regions; give these, and the "
            "photo as picture=..."
        )
    store = PatchFeatures([path], **photo_settings(model))
    return Regions(torch.from_numpy(store[0])[None]), store.boxes(0)


def takes_photos(model: MatchingModel) -> bool:
    """Whether a model looks at photos; otherwise it takes features of regions."""
    return isinstance(model.image_encoder, ClipImageEncoder)


def photo_settings(model: MatchingModel) -> dict[str, Any]:
    """How a model that looks at photos wants them: arguments of :class:`PatchFeatures` and :class:`ImageFolder`."""
    encoder = model.image_encoder
    assert isinstance(encoder, ClipImageEncoder)
    vision, half = encoder.config.vision_config, [0.5] * 3
    sizes = {"image_size": int(vision.image_size), "patch_size": int(vision.patch_size)}
    return sizes if encoder.is_clip else {**sizes, "fit": "stretch", "mean": half, "std": half}
