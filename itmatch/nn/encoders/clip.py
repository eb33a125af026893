"""The image and the text encoder of CLIP and SigLIP, from ``transformers``."""

from __future__ import annotations

from abc import abstractmethod
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from itmatch.batch import Captions, Fragments, Regions
from itmatch.formats.hub.models import load_pretrained
from itmatch.nn.block import Block
from itmatch.nn.encoders._output import takes_no_rows
from itmatch.nn.encoders._pretrained import model_from_config, recorded
from itmatch.nn.encoders.base import ImageEncoder, TextEncoder
from itmatch.ops.checks import check_whole
from itmatch.ops.masking import l2_normalize

_TYPES = ("clip", "siglip")


class _Tower(Block):
    """Base class of the two towers.

    Args:
        model_name: name on the Hugging Face hub (``"openai/clip-vit-base-patch32"``,
            ``"google/siglip-base-patch16-224"``), or a local folder that ``save_pretrained`` has written.
        config: the settings of the whole model, ``{"model_type": "clip", "text_config": {...}, ...}``; it is then built
            from them, with random weights. A checkpoint rebuilds through it.
        trainable: False freezes the tower and keeps its dropout off.
        normalize: L2-normalise fragments and vectors at the end.
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        *,
        config: dict[str, Any] | None = None,
        trainable: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if config is None and model_name is None:
            raise ValueError(f"{name}: neither model_name nor config, expected one of them")
        if config is not None:
            if config.get("model_type") not in _TYPES:
                raise ValueError(f"{name}.config: model_type {config.get('model_type')!r}, expected clip or siglip")
            model = model_from_config(config, name)
        else:
            model = load_pretrained("AutoModel", str(model_name), "model")
        if model.config.model_type not in _TYPES:
            raise ValueError(f"{name}: a model of type {model.config.model_type!r}, expected clip or siglip")
        model = model.float()  # models are stored in half precision too; autocast is meant for that
        self.config = model.config
        self.is_clip = model.config.model_type == "clip"
        self.trainable, self.normalize = trainable, normalize
        self._take(model)
        self.requires_grad_(trainable)
        self.train(self.training)  # `from_pretrained` hands the model over in evaluation mode

    @abstractmethod
    def _take(self, model: Any) -> None:
        """Keep the parts of the whole model that this tower consists of."""

    def spec_arguments(self) -> dict[str, Any]:
        """With the settings of the model, so that neither hub nor folder is needed to build it again."""
        return super().spec_arguments() | {"config": recorded(self.config)}

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 (the signature of nn.Module)
        """Set the mode; a frozen tower stays in evaluation mode."""
        return super().train(mode and self.trainable)

    def _fragments(self, features: Tensor, mask: Tensor, pooled: Tensor) -> Fragments:
        if self.normalize:
            features, pooled = l2_normalize(features), l2_normalize(pooled)
        return Fragments(features.masked_fill(~mask[..., None], 0.0), mask, pooled)


class ClipImageEncoder(_Tower, ImageEncoder):
    """Image encoder: the image tower of CLIP or SigLIP, with the patches of an image as its fragments.

    The regions of an image are its patches as raw pixels, row after row of the grid, all of them
    (:class:`itmatch.data.ImageFolder` reads them, :func:`patches_of` makes them of pixels).

    Args:
        model_name: name on the Hugging Face hub, or a local folder that ``save_pretrained`` has written.
        config: settings of the whole model, which is then built with random weights.
        trainable: False freezes the tower and keeps its dropout off.
        normalize: L2-normalise fragments and vectors at the end.

    Shape:
        ``Regions`` with features (I, P, 3 p p), P patches of p x p pixels -> ``Fragments`` with features (I, P, D) and
        pooled (I, D), the image embedding of the model. The fragments are its last hidden states through the same
        normalisation and projection as the embedding.

    Source:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; Zhai et al.,
        "Sigmoid Loss for Language Image Pre-Training", ICCV 2023.

    Example:
        >>> small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> vision = {**small, "image_size": 16, "patch_size": 8}
        >>> encoder = ClipImageEncoder(config={"model_type": "siglip", "text_config": small, "vision_config": vision})
        >>> patches = patches_of(torch.randn(2, 3, 16, 16), 8)
        >>> encoder(Regions(patches, torch.ones(2, 4, dtype=torch.bool))).features.shape
        torch.Size([2, 4, 16])
    """

    def _take(self, model: Any) -> None:
        self.vision_model = model.vision_model
        self.embed_dim = model.config.projection_dim if self.is_clip else model.config.vision_config.hidden_size
        self.projection = model.visual_projection if self.is_clip else torch.nn.Identity()

    @property
    def num_patches(self) -> int:
        """P, the patches of an image."""
        settings = self.config.vision_config
        return int(settings.image_size // settings.patch_size) ** 2

    @property
    def in_features(self) -> int:
        """Pixel values of a patch."""
        return 3 * int(self.config.vision_config.patch_size) ** 2

    def _mismatch(self, regions: Regions) -> str:
        settings, counts = self.config.vision_config, regions.mask.sum(1)
        (least, most), size = (int(counts.min()), int(counts.max())), regions.features.shape[2]
        side, patch = isqrt(most), isqrt(size // 3)
        if least == most == side**2 and size == 3 * patch**2:  # images, cut for another model
            return (
                f"ClipImageEncoder: images of {side * patch} pixels in patches of {patch}, expected image_size "
                f"{settings.image_size} and patch_size {settings.patch_size}, as the model has them"
            )
        return (
            f"ClipImageEncoder: {least} to {most} regions of size {size}, expected the {self.num_patches} patches of "
            f"{self.in_features} pixel values of every image (no size augmentation of regions)"
        )

    @takes_no_rows
    def forward(self, regions: Regions) -> Fragments:
        """Encode a batch of images."""
        if regions.features.shape[1:] != (self.num_patches, self.in_features) or not bool(regions.mask.all()):
            raise ValueError(self._mismatch(regions))
        patch = self.config.vision_config.patch_size
        weight = next(self.vision_model.parameters())
        output = self.vision_model(pixel_values=pixels_of(regions.features.to(weight.dtype), patch))
        hidden = output.last_hidden_state
        if self.is_clip:
            hidden = self.vision_model.post_layernorm(hidden[:, 1:])  # without the class token
        return self._fragments(self.projection(hidden), regions.mask, self.projection(output.pooler_output))


class ClipTextEncoder(_Tower, TextEncoder):
    """Text encoder: the text tower of CLIP or SigLIP, with the tokens of a caption as its fragments.

    Args:
        model_name: name on the Hugging Face hub, or a local folder that ``save_pretrained`` has written.
        config: settings of the whole model, which is then built with random weights.
        trainable: False freezes the tower and keeps its dropout off.
        normalize: L2-normalise fragments and vectors at the end.
        pad_id: token id that captions of SigLIP are filled up with, that of its tokenizer's padding; None = that of the
            model's settings, which may be another one.

    Shape:
        ``Captions`` with input_ids (T, W) of the model's own tokenizer -> ``Fragments`` with features (T, W, D) and
        pooled (T, D), the text embedding of the model. SigLIP reads captions filled up to its full length, as it was
        trained; its padding is no fragment.

    Source:
        As :class:`ClipImageEncoder`.

    Example:
        >>> small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> text = {**small, "vocab_size": 30, "max_position_embeddings": 8}
        >>> encoder = ClipTextEncoder(config={"model_type": "siglip", "text_config": text, "vision_config": small})
        >>> encoder(Captions(torch.tensor([[5, 7, 1]]), torch.ones(1, 3, dtype=torch.bool))).pooled.shape
        torch.Size([1, 16])
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        *,
        config: dict[str, Any] | None = None,
        trainable: bool = True,
        normalize: bool = True,
        pad_id: int | None = None,
    ) -> None:
        super().__init__(model_name, config=config, trainable=trainable, normalize=normalize)
        settings = self.config.text_config
        own = settings.pad_token_id or 0
        self.pad_id = check_whole("ClipTextEncoder.pad_id", own if pad_id is None else pad_id, 0)
        if self.pad_id >= settings.vocab_size:
            raise ValueError(f"ClipTextEncoder.pad_id: {pad_id}, expected an id below {settings.vocab_size}")

    def _take(self, model: Any) -> None:
        self.text_model = model.text_model
        self.embed_dim = model.config.projection_dim if self.is_clip else model.config.text_config.projection_size
        self.projection = model.text_projection if self.is_clip else torch.nn.Identity()

    @takes_no_rows
    def forward(self, captions: Captions) -> Fragments:
        """Encode a batch of captions."""
        settings = self.config.text_config
        length, mask = captions.mask.shape[1], captions.mask
        if length > settings.max_position_embeddings:
            raise ValueError(
                f"ClipTextEncoder: captions of {length} tokens, expected at most {settings.max_position_embeddings}"
            )
        ids = captions.input_ids.masked_fill(~mask, self.pad_id)
        if self.is_clip:
            output = self.text_model(input_ids=ids, attention_mask=mask.long())
            return self._fragments(
                self.projection(output.last_hidden_state), mask, self.projection(output.pooler_output)
            )
        full = ids.new_full((len(ids), settings.max_position_embeddings), self.pad_id)
        full[:, :length] = ids
        output = self.text_model(input_ids=full)
        return self._fragments(self.text_model.head(output.last_hidden_state[:, :length]), mask, output.pooler_output)


def patches_of(pixels: Tensor, size: int) -> Tensor:
    """(I, 3, H, W) pixels to (I, P, 3 size size) patches, row after row of the grid.

    Raises:
        ValueError: height or width is no multiple of ``size``.
    """
    images, channels, height, width = pixels.shape
    if height % size or width % size:
        raise ValueError(f"pixels: {height} x {width}, expected multiples of {size}")
    grid = pixels.view(images, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(images, -1, channels * size * size)


def pixels_of(patches: Tensor, size: int) -> Tensor:
    """(I, P, 3 size size) patches of square images to (I, 3, H, H) pixels; undoes :func:`patches_of`."""
    side = isqrt(patches.shape[1])
    grid = patches.view(len(patches), side, side, -1, size, size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, side * size, side * size)
