"""What every encoder is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from itmatch.batch import Captions, Fragments, Regions
from itmatch.nn.block import Block
from itmatch.ops.checks import check_kind


class ImageEncoder(Block, ABC):
    """Turns the regions of images into fragments. Subclass it to write your own.

    Shape:
        - regions: features (I, R, F), of float32 where the weights are, whatever they are stored as; mask (I, R)
        - output: features (I, R, D), 0 in padded places; mask (I, R); pooled (I, D), if the encoder makes one vector
          per image

    Attributes:
        embed_dim: D, the size of the shared space; the constructor sets it. A model needs two encoders of one size.
        offset: place of the fragment that stands for the first region, behind which the others follow; None where a
            fragment stands for no single region. It says what pictures of alignments may show.

    Example:
        >>> from torch import nn
        >>> class Projection(ImageEncoder):
        ...     def __init__(self, in_features: int, embed_dim: int) -> None:
        ...         super().__init__()
        ...         self.embed_dim = embed_dim
        ...         self.linear = nn.Linear(in_features, embed_dim)
        ...
        ...     def forward(self, regions: Regions) -> Fragments:
        ...         features = self.linear(regions.features).masked_fill(~regions.mask[..., None], 0)
        ...         return Fragments(features, regions.mask)
    """

    embed_dim: int
    offset: int | None = 0

    def __call__(self, regions: Regions, *more: Any, **options: Any) -> Fragments:
        """Encode a batch of images; features in float16, as they are stored and copied, are widened here."""
        check_kind("regions", regions, Regions)
        if regions.features.dtype == torch.float16 and self._reads_more():
            regions = regions.to(dtype=torch.float32)
        return _encoded(self, super().__call__(regions, *more, **options))

    @abstractmethod
    def forward(self, regions: Regions) -> Fragments:
        """Encode a batch of images."""

    def _reads_more(self) -> bool:
        """Whether the weights are none of float16."""
        return next((weight.dtype for weight in self.parameters()), torch.float32) != torch.float16


class TextEncoder(Block, ABC):
    """Turns the tokens of captions into fragments. Subclass it to write your own, as :class:`ImageEncoder`.

    Shape:
        - captions: input_ids (T, W), mask (T, W)
        - output: features (T, W, D), 0 in padded places; mask (T, W); pooled (T, D), if the encoder makes one vector
          per caption

    Attributes:
        embed_dim: D, the size of the shared space; the constructor sets it.
        offset: place of the fragment that stands for the first token, as for :class:`ImageEncoder`.
    """

    embed_dim: int
    offset: int | None = 0

    def __call__(self, captions: Captions, *more: Any, **options: Any) -> Fragments:
        """Encode a batch of captions."""
        check_kind("captions", captions, Captions)
        return _encoded(self, super().__call__(captions, *more, **options))

    @abstractmethod
    def forward(self, captions: Captions) -> Fragments:
        """Encode a batch of captions."""


def _encoded(encoder: Block, found: Fragments) -> Fragments:
    checked: Fragments = check_kind(f"{type(encoder).__qualname__} returned", found, Fragments)
    return checked
