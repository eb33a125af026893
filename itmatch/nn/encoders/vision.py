"""The image encoder with a pretrained vision transformer."""

from __future__ import annotations

import inspect
from math import isqrt
from pathlib import Path
from typing import Any

from torch import nn

from itmatch.batch import Fragments, Regions
from itmatch.extractor import MOST_PIXELS, check_at_most
from itmatch.formats.hub.models import patch_and_image_size
from itmatch.nn.encoders._output import takes_no_rows, to_fragments
from itmatch.nn.encoders._patches import pixels_of
from itmatch.nn.encoders._pretrained import HasTransformer, named_or_new, without_pooler
from itmatch.nn.encoders.base import ImageEncoder
from itmatch.nn.encoders.lora import Lora
from itmatch.nn.linear import xavier_linear
from itmatch.nn.pooling import Pooling
from itmatch.ops.checks import check_dropout, check_kind_or_none, check_whole

_NAME = "TransformerImageEncoder"


class TransformerImageEncoder(HasTransformer, ImageEncoder):
    """Image encoder: a vision model of ``transformers``, its last hidden states projected into the shared space.

    ViT, DeiT, BEiT, Swin, DINOv2, DINOv3 and the image side of SigLIP and SigLIP 2 are of this kind. (CLIP, and SigLIP
    with its own text tower, are :class:`ClipImageEncoder`.) The regions of an image are its patches as raw pixels, row
    after row of the grid, all of them; of Swin, the patches of its last stage, 32 pixels a side.

    Args:
        model_name: name on the Hugging Face hub (``"google/vit-base-patch16-224"``, ``"facebook/dinov2-base"``,
            ``"microsoft/swin-base-patch4-window7-224"``, ``"google/siglip2-base-patch16-224"``), or a local folder that
            ``save_pretrained`` has written.
        embed_dim: size D of the shared space.
        config: the settings of the vision model, ``{"model_type": "vit", "hidden_size": 64, ...}``; it is then built
            from them, with random weights, and ``model_name`` is not looked up. A checkpoint rebuilds through it.
        image_size: pixels of a side; None = that of the settings. Positions are interpolated where it is another.
        class_token: the first fragment is the class token, where the model has one; False leaves it out.
        trainable: False freezes the transformer and keeps its dropout off; nothing is stored for its backward pass.
        normalize: L2-normalise each fragment at the end.
        dropout: probability, on the hidden states before the projection.
        gradient_checkpointing: trade time for memory in the backward pass.
        pooling: makes ``Fragments.pooled``, from the fragments before their normalisation; None makes none.
        lora: train small updates of the transformer's weights, and not these.

    Shape:
        ``Regions`` with features (I, P, 3 p p), P patches of p x p pixels -> ``Fragments`` with features (I, P, D), or
        (I, 1 + P, D) with a class token

    Source:
        The image side of LAPS and of AVSE: last hidden states and a linear layer. The transformer is the submodule
        ``transformer``, so a learning rate of its own can be given to ``image_encoder.transformer``.

    Example:
        >>> import torch
        >>> from itmatch.nn import patches_of
        >>> config = {"model_type": "vit", "image_size": 16, "patch_size": 8, "hidden_size": 16,
        ...           "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        >>> encoder = TransformerImageEncoder(embed_dim=8, config=config)
        >>> encoder(Regions(patches_of(torch.randn(2, 3, 16, 16), 8))).features.shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        embed_dim: int = 1024,
        *,
        config: dict[str, Any] | None = None,
        image_size: int | None = None,
        class_token: bool = True,
        trainable: bool = True,
        normalize: bool = True,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        pooling: Pooling | None = None,
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = check_whole(f"{_NAME}.embed_dim", embed_dim)
        self.normalize, self.class_token = normalize, class_token
        self.dropout = nn.Dropout(check_dropout(f"{_NAME}.dropout", dropout))
        model = _vision_part(named_or_new(model_name, config, _NAME, "vision model"))
        self.patch_size, own = patch_and_image_size(model.config)
        self.image_size = check_whole(f"{_NAME}.image_size", own if image_size is None else image_size)
        check_at_most(f"{_NAME}.image_size", self.image_size, MOST_PIXELS)
        if self.image_size % self.patch_size:
            raise ValueError(f"{_NAME}.image_size: {self.image_size}, expected a multiple of {self.patch_size}")
        takes = inspect.signature(model.forward).parameters
        other = self.image_size != own and "interpolate_pos_encoding" in takes
        self._options = {"interpolate_pos_encoding": True} if other else {}
        has_class = any(name.endswith("cls_token") for name, _ in model.named_parameters())
        self.offset = self._first = int(class_token and has_class)
        self.take(model, trainable=trainable, lora=lora, gradient_checkpointing=gradient_checkpointing)
        for name, parameter in model.named_parameters():
            if name.endswith("mask_token"):  # of its pretraining; it would never have a gradient
                parameter.requires_grad_(False)  # noqa: FBT003 (the value)
        self.fc = xavier_linear(int(model.config.hidden_size), embed_dim)
        self.pooling = check_kind_or_none("pooling", pooling, Pooling)
        self.train(self.training)  # `from_pretrained` hands the model over in evaluation mode

    @property
    def num_patches(self) -> int:
        """P, the patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def in_features(self) -> int:
        """Pixel values of a patch."""
        return 3 * self.patch_size**2

    @takes_no_rows
    def forward(self, regions: Regions) -> Fragments:
        """Encode a batch of images."""
        if regions.features.shape[1:] != (self.num_patches, self.in_features) or not bool(regions.mask.all()):
            raise ValueError(self._mismatch(regions))
        weight = self.fc.weight
        pixels = pixels_of(regions.features.to(next(self.transformer.parameters()).dtype), self.patch_size)
        hidden = self.transformer(pixel_values=pixels, **self._options).last_hidden_state  # (I, S + P, H)
        special = hidden.shape[1] - self.num_patches  # the class token, and others that are no patches
        if len(hidden) != len(pixels) or special < self._first:
            raise ValueError(
                f"{_NAME}: {len(pixels)} images of {self.num_patches} patches became hidden states of shape "
                f"{tuple(hidden.shape)}: this model is none that keeps a state per patch"
            )
        kept = [*range(self._first), *range(special, hidden.shape[1])]
        features = self.fc(self.dropout(hidden[:, kept].to(weight.dtype)))
        mask = regions.mask.new_ones(features.shape[:2])
        return to_fragments(features, mask, normalize=self.normalize, pooling=self.pooling)

    def _mismatch(self, regions: Regions) -> str:
        counts, size = regions.mask.sum(1), regions.features.shape[2]
        least, most = int(counts.min()), int(counts.max())
        wanted = f"image_size {self.image_size} and patch_size {self.patch_size}, as the model has them"
        side, patch = isqrt(most), isqrt(size // 3)
        if least == most == side**2 and size == 3 * patch**2:  # images, cut for another model
            return f"{_NAME}: images of {side * patch} pixels in patches of {patch}, expected {wanted}"
        return (
            f"{_NAME}: {least} to {most} regions of size {size}, expected the {self.num_patches} patches of "
            f"{self.in_features} pixel values of every image ({wanted}; no size augmentation of regions)"
        )


def _vision_part(model: Any) -> Any:
    """The part that makes hidden states of pixels, without a pooler."""
    kind = model.config.model_type
    if kind in ("clip", "clip_vision_model"):
        raise ValueError(f"{_NAME}: a model of type {kind}, which is for ClipImageEncoder")
    model = without_pooler(getattr(model, "vision_model", model))
    if getattr(model, "head", None) is not None:  # the pooler of SigLIP
        model.config.vision_use_head = model.use_head = False
        model.head = None
    takes_images = "pixel_values" in inspect.signature(model.forward).parameters
    own_class = any(name.endswith("class_embedding") for name, _ in model.named_parameters())  # kin of CLIP
    if not takes_images or own_class or hasattr(model.config, "num_patches") or not _has_width(model.config):
        raise ValueError(f"{_NAME}: a model of type {kind!r}, expected one that reads images of a fixed size")
    return model


def _has_width(config: Any) -> bool:
    return isinstance(getattr(config, "hidden_size", None), int)
