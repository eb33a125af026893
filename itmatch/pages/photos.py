"""A photo as the regions of a model that looks at photos itself."""

from __future__ import annotations

from pathlib import Path

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
    encoder = model.image_encoder
    if not isinstance(encoder, ClipImageEncoder):
        raise ValueError(
            f"{path}: a photo, and {type(encoder).__name__} takes features of regions; give these, and the photo as "
            "picture=..."
        )
    vision = encoder.config.vision_config
    half = [0.5] * 3
    store = (
        PatchFeatures([path], vision.image_size, vision.patch_size)
        if encoder.is_clip
        else PatchFeatures([path], vision.image_size, vision.patch_size, fit="stretch", mean=half, std=half)
    )
    return Regions(torch.from_numpy(store[0])[None]), store.boxes(0)
