"""Backbones: what makes a map of features of a whole photo."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itmatch.extractor import MOST_PIXELS, check_at_most
from itmatch.formats.hub.models import load_pretrained
from itmatch.formats.photos import image_module
from itmatch.ops.checks import check_whole
from itmatch.spec import Configurable
from itmatch.vision.loading import device_of, load_model, whole_path


class Backbone(Configurable):
    """What a :class:`RegionExtractor` asks of a backbone; any function of this form will do, too.

    A backbone that loads weights does so at its first call, and leaves them out when it is pickled.
    """

    @abstractmethod
    def __call__(self, images: Sequence[Any]) -> Tensor:
        """Maps (I, C, H, W) of RGB images of Pillow. Each covers its whole photo: nothing is cut off."""

    def __repr__(self) -> str:
        """The settings."""
        return f"{type(self).__name__}({self.extra_repr()})"


class PretrainedBackbone(Backbone):
    """A model of ``transformers``: DINOv2, SigLIP, CLIP, ViT, ResNet, ConvNeXt and others.

    Mean, deviation and size come from the model's processor. The photo is stretched to a square and not cropped, so
    that boxes mean the same in the photo and in the map.

    Args:
        name: of the Hugging Face hub, or a folder.
        image_size: pixels of a side; None = what the processor says.
        stage: of the hidden states, which one; -1 is the last, and of a ResNet -2 is twice as fine.
        device: None = a GPU where there is one.

    Raises:
        FileNotFoundError: when it is loaded, at the first call or before: there is no such model.
    """

    def __init__(self, name: str, *, image_size: int | None = None, stage: int = -1, device: str | None = None) -> None:
        self.name, self.image_size, self.stage, self.device = name, image_size, stage, device
        if image_size is not None:
            check_at_most("image_size", check_whole("image_size", image_size), MOST_PIXELS)
        self._loaded: tuple[Any, Pixels] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the weights, which the other process loads again."""
        return self.__dict__ | {"_loaded": None}

    def spec_arguments(self) -> dict[str, Any]:
        """Without the device, which is of a machine; a folder by its whole path, for use elsewhere."""
        arguments = {name: value for name, value in super().spec_arguments().items() if name != "device"}
        return arguments | {"name": whole_path(self.name)}

    @torch.no_grad()
    def __call__(self, images: Sequence[Any]) -> Tensor:
        """Maps (I, C, H, W)."""
        model, pixels = self.load()
        values = torch.stack([pixels(image) for image in images]).to(model.device)
        if self.stage == -1:
            hidden = model(pixel_values=values).last_hidden_state
        else:
            states = model(pixel_values=values, output_hidden_states=True).hidden_states
            if not -len(states) <= self.stage < len(states):
                raise ValueError(f"backbone {self.name!r}: stage {self.stage}, of {len(states)} hidden states")
            hidden = states[self.stage]
        return _as_map(hidden.float(), getattr(model.config, "patch_size", None), values.shape[-2:], self.name)

    def load(self) -> tuple[Any, Pixels]:
        """The model and what prepares its photos; they are loaded once."""
        if self._loaded is None:
            model = load_model("AutoModel", self.name, "backbone", device_of(self.device))
            model = getattr(model, "vision_model", model)  # of CLIP and SigLIP, which also read captions
            processor = load_pretrained("AutoImageProcessor", self.name, "processor of the backbone")
            self._loaded = model, Pixels(processor, self.image_size)
        return self._loaded


class Pixels:
    """Photos as the values that a model reads: stretched to a square, with a mean and a deviation taken off."""

    def __init__(self, processor: Any, image_size: int | None) -> None:
        self.size = check_at_most("image_size", check_whole("image_size", image_size or _side(processor)), MOST_PIXELS)
        self.mean = np.asarray(processor.image_mean or (0, 0, 0), np.float32)
        self.std = np.asarray(processor.image_std or (1, 1, 1), np.float32)

    def __call__(self, image: Any) -> Tensor:
        """(3, S, S)."""
        resized = image.resize((self.size, self.size), image_module().Resampling.BICUBIC)
        values = (np.asarray(resized, np.float32) / 255 - self.mean) / self.std
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _side(processor: Any) -> int:
    """Pixels of a side that a processor makes a photo."""
    cropped = getattr(processor, "do_center_crop", False)
    for sizes in (getattr(processor, "crop_size", None) if cropped else None, getattr(processor, "size", None)):
        found = dict(sizes or {})
        side = found.get("height") or found.get("shortest_edge")
        if side:
            return int(side)
    return 224


def _as_map(hidden: Tensor, patch: Any, size: Sequence[int], name: str) -> Tensor:
    """(I, C, H, W) from a map, or from a sequence of patches behind a class token and registers."""
    if hidden.ndim == 4:
        return hidden
    height, width = (side // int(patch) for side in size) if isinstance(patch, int) else (0, 0)
    if hidden.ndim != 3 or not 0 < height * width <= hidden.shape[1]:
        raise ValueError(f"backbone {name!r}: hidden states of shape {tuple(hidden.shape)}, expected a map or patches")
    return hidden[:, -height * width :].transpose(1, 2).reshape(*hidden.shape[::2], height, width)
