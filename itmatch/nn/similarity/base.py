"""The base class of similarities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn.block import Block
from itmatch.ops.checks import check_kind


class Similarity(Block):
    """Base class: scores every image of a batch against every caption.

    To write your own, subclass this and implement :meth:`forward`; :meth:`align` only if pictures are wanted.
    Both begin with ``self.check(image, text)``.

    Shape:
        - image: features (I, R, D)
        - text: features (T, W, D)
        - output: (I, T), larger is more similar; in float32, or float64 if an input is, also for half-precision
          inputs and under autocast: losses and ranks turn on differences that half precision cannot tell

    Attributes:
        chunk_size: images worked on at a time, or None for a size that suits the device. Bounds memory; scores and
            gradients do not depend on it.
        reads_half: whether stored fragments in half precision may come as they are: they are converted block by block
            where they are used, which reads less memory than converting all of them before.
        reads_pooled: whether it reads nothing but ``Fragments.pooled`` of a side that has them.
    """

    chunk_size: int | None = None
    reads_half: ClassVar[bool] = False
    reads_pooled: ClassVar[bool] = False

    def __call__(self, image: Fragments, text: Fragments, *more: Any, **options: Any) -> Tensor:
        """All scores; raises if :meth:`forward` gives something else."""
        found = super().__call__(image, text, *more, **options)
        scores: Tensor = check_kind(f"{type(self).__qualname__} returned", found, Tensor)
        if not torch.compiler.is_compiling() and scores.shape != (len(image), len(text)):
            shape, expected = tuple(scores.shape), (len(image), len(text))
            told = f"{type(self).__qualname__} returned {shape}, expected {expected} (images, captions)"
            raise ValueError(f"{told}: they are transposed" if shape == expected[::-1] else told)
        return scores

    @abstractmethod
    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """Which region goes with which word, (R, W), for one image and one caption; 0 in padded positions."""
        raise NotImplementedError(f"{type(self).__name__} has no alignment of regions and words")

    @staticmethod
    def check(image: Fragments, text: Fragments) -> None:
        """Raise unless both sides are fragments, of one size."""
        check_kind("image", image, Fragments)
        check_kind("text", text, Fragments)
        if image.features.shape[-1] != text.features.shape[-1]:
            raise ValueError(
                f"embedding sizes differ: image {image.features.shape[-1]}, text {text.features.shape[-1]}; "
                "give both encoders the same embed_dim"
            )

    @classmethod
    def check_pair(cls, image: Fragments, text: Fragments) -> None:
        """Raise unless there is one image and one caption, with fragments of one size."""
        cls.check(image, text)
        if len(image) != 1 or len(text) != 1:
            raise ValueError(f"align takes one image and one caption, got {len(image)} and {len(text)}")

    @classmethod
    def on_real_fragments(cls, image: Fragments, text: Fragments, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of the inner products (r, w) of one pair's real fragments, as (R, W), 0 where padded."""
        cls.check_pair(image, text)
        regions, words = image.mask[0].nonzero(), text.mask[0].nonzero()  # (r, 1), (w, 1)
        dtype = torch.promote_types(torch.promote_types(image.features.dtype, text.features.dtype), torch.float32)
        with torch.autocast(image.features.device.type, enabled=False):  # it would make the product in half precision
            shown = function(image.features[0, regions[:, 0]].to(dtype) @ text.features[0, words[:, 0]].to(dtype).T)
        return shown.new_zeros(image.mask.shape[1], text.mask.shape[1]).index_put((regions, words.T), shown)
