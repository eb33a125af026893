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
from itmatch.nn.encoders._patches import grid_shapes, pixels_of
from itmatch.nn.encoders._pretrained import model_from_config, recorded
from itmatch.nn.encoders.base import ImageEncoder, TextEncoder
from itmatch.nn.encoders.lora import Lora
from itmatch.ops.checks import check_whole
from itmatch.ops.masking import l2_normalize

_TYPES = ("clip", "siglip", "siglip2")
_EXPECTED = "expected clip, siglip or siglip2"
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.txt")


class _Tower(Block):
    """Base class of the two towers.

    Args:
        model_name: name on the Hugging Face hub (``"openai/clip-vit-base-patch32"``,
            ``"google/siglip-base-patch16-224"``), or a local folder that ``save_pretrained`` has written.
        config: the settings of the whole model, ``{"model_type": "clip", "text_config": {...}, ...}``; it is then built
            from them, with random weights. A checkpoint rebuilds through it.
        trainable: False freezes the tower and keeps its dropout off.
        normalize: L2-normalise fragments and vectors at the end.
        lora: train small updates of the tower's weights, and its projection, and not these weights.
    """

    embed_dim: int = 1  # of one that is not built but noted (:func:`itmatch.spec.only_noted`)

    def __init__(
        self,
        model_name: str | Path | None = None,
        *,
        config: dict[str, Any] | None = None,
        trainable: bool = True,
        normalize: bool = True,
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if config is None and model_name is None:
            raise ValueError(f"{name}: neither model_name nor config, expected one of them")
        if config is not None:
            if config.get("model_type") not in _TYPES:
                raise ValueError(f"{name}.config: model_type {config.get('model_type')!r}, {_EXPECTED}")
            model = model_from_config(config, name)
        else:
            model = load_pretrained("AutoModel", str(model_name), "model")
        if model.config.model_type not in _TYPES:
            raise ValueError(f"{name}: a model of type {model.config.model_type!r}, {_EXPECTED}")
        model = model.float()  # models are stored in half precision too; autocast is meant for that
        self.config = model.config
        self.is_clip = model.config.model_type == "clip"
        self.trainable, self.normalize = trainable, normalize
        self._take(model)
        self.requires_grad_(trainable)
        for part in ("vision_model", "text_model"):
            if lora is not None and part in self._modules:
                setattr(self, part, lora.added_to(getattr(self, part), name, trainable=trainable))
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
    (:class:`itmatch.data.PhotoPatches` makes them of photos, :func:`patches_of` of pixels). A SigLIP 2 of variable
    resolution (NaFlex) takes grids of any height and width, and two numbers more in a patch: its row and its column.

    Args:
        model_name: name on the Hugging Face hub, or a local folder that ``save_pretrained`` has written.
        config: settings of the whole model, which is then built with random weights.
        trainable: False freezes the tower and keeps its dropout off.
        normalize: L2-normalise fragments and vectors at the end.
        lora: train small updates of the tower's weights, and its projection, and not these weights.

    Shape:
        ``Regions`` with features (I, P, 3 p p), P patches of p x p pixels (of a NaFlex (I, P, 3 p p + 2), in which the
        images have different numbers of patches) -> ``Fragments`` with features (I, P, D) and
        pooled (I, D), the image embedding of the model. The fragments are its last hidden states through the same
        normalisation and projection as the embedding.

    Source:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; Zhai et al.,
        "Sigmoid Loss for Language Image Pre-Training", ICCV 2023.

    Example:
        >>> small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> vision = {**small, "image_size": 16, "patch_size": 8}
        >>> encoder = ClipImageEncoder(config={"model_type": "siglip", "text_config": small, "vision_config": vision})
        >>> from itmatch.nn import patches_of
        >>> patches = patches_of(torch.randn(2, 3, 16, 16), 8)
        >>> encoder(Regions(patches, torch.ones(2, 4, dtype=torch.bool))).features.shape
        torch.Size([2, 4, 16])
    """

    def _take(self, model: Any) -> None:
        self.vision_model = model.vision_model
        self.embed_dim = model.config.projection_dim if self.is_clip else model.config.vision_config.hidden_size
        self.projection = model.visual_projection if self.is_clip else torch.nn.Identity()

    @property
    def is_flexible(self) -> bool:
        """Whether the images may have grids of different heights and widths."""
        return bool(self.config.model_type == "siglip2")

    @property
    def num_patches(self) -> int | None:
        """P, the patches of an image; None where images have different numbers of them."""
        settings = self.config.vision_config
        return None if self.is_flexible else int(settings.image_size // settings.patch_size) ** 2

    @property
    def in_features(self) -> int:
        """Numbers of a patch: its pixel values, and of a flexible grid its row and column."""
        return 3 * int(self.config.vision_config.patch_size) ** 2 + 2 * self.is_flexible

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
        output = self._flexible(regions) if self.is_flexible else self._square(regions)
        hidden = output.last_hidden_state
        if self.is_clip:
            hidden = self.vision_model.post_layernorm(hidden[:, 1:])  # without the class token
        return self._fragments(self.projection(hidden), regions.mask, self.projection(output.pooler_output))

    def _square(self, regions: Regions) -> Any:
        if regions.features.shape[1:] != (self.num_patches, self.in_features) or not bool(regions.mask.all()):
            raise ValueError(self._mismatch(regions))
        patch = self.config.vision_config.patch_size
        return self.vision_model(pixel_values=pixels_of(regions.features.to(self._dtype), patch))

    def _flexible(self, regions: Regions) -> Any:
        """Of grids of any height and width, whose patches are filled up to those of the largest."""
        patch, mask = int(self.config.vision_config.patch_size), regions.mask
        if regions.features.shape[2] != self.in_features:
            raise ValueError(
                f"ClipImageEncoder: regions of size {regions.features.shape[2]}, expected {self.in_features}: pixel "
                f"values of patches of {patch} x {patch}, and the row and column of each"
            )
        pixels = regions.features[..., :-2].masked_fill(~mask[..., None], 0)  # NaN in padding would reach real ones
        places = regions.features[..., -2:]
        shapes = grid_shapes(places, mask)
        colours_last = pixels.reshape(*mask.shape, 3, patch, patch).permute(0, 1, 3, 4, 2)  # as the model has them
        values = colours_last.flatten(2)
        return self.vision_model(
            pixel_values=values.to(self._dtype), pixel_attention_mask=mask.long(), spatial_shapes=shapes
        )

    @property
    def _dtype(self) -> torch.dtype:
        weight: Tensor = next(self.vision_model.parameters())
        return weight.dtype


class ClipTextEncoder(_Tower, TextEncoder):
    """Text encoder: the text tower of CLIP or SigLIP, with the tokens of a caption as its fragments.

    Args:
        model_name: name on the Hugging Face hub, or a local folder that ``save_pretrained`` has written.
        config: settings of the whole model, which is then built with random weights.
        trainable: False freezes the tower and keeps its dropout off.
        normalize: L2-normalise fragments and vectors at the end.
        lora: train small updates of the tower's weights, and its projection, and not these weights.
        pad_id: token id that captions of SigLIP are filled up with; None = that of the model's tokenizer, or of its
            settings, which may be another one, where it comes without a tokenizer or from ``config``.

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
        lora: Lora | None = None,
        pad_id: int | None = None,
    ) -> None:
        super().__init__(model_name, config=config, trainable=trainable, normalize=normalize, lora=lora)
        settings = self.config.text_config
        named = model_name if config is None and pad_id is None and not self.is_clip else None  # a CLIP has a mask
        own = _padding(str(model_name), settings.pad_token_id) if named is not None else settings.pad_token_id or 0
        self.pad_id = check_whole("ClipTextEncoder.pad_id", own if pad_id is None else pad_id, 0)
        if self.pad_id >= settings.vocab_size:
            raise ValueError(f"ClipTextEncoder.pad_id: {self.pad_id}, expected an id below {settings.vocab_size}")

    def spec_arguments(self) -> dict[str, Any]:
        """With the padding, wherever it comes from."""
        return super().spec_arguments() | {"pad_id": self.pad_id}

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


def _padding(model_name: str, otherwise: int | None) -> int:
    """The padding of a model's tokenizer, or the other one where it comes without a tokenizer."""
    if Path(model_name).is_dir() and not any((Path(model_name) / name).is_file() for name in _TOKENIZERS):
        return otherwise or 0  # transformers would make one without words
    found = load_pretrained("AutoTokenizer", model_name, "tokenizer").pad_token_id
    return int(found if found is not None else otherwise or 0)
