"""One image and one caption as a split gives them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageItem:
    """One image as it is read.

    Args:
        index: place in the dataset.
        features: (R, F) float32.
        boxes: (R, 4) float32 in [0, 1], or None.
        labels: (R,) int64, -1 = unknown, or None.
        relations: (K, 3) int64, subject region, predicate, object region, or None.
        relation_scores: (K,) float32 in [0, 1], or None.
    """

    index: int
    features: Tensor
    boxes: Tensor | None = None
    labels: Tensor | None = None
    relations: Tensor | None = None
    relation_scores: Tensor | None = None


@dataclass(frozen=True)
class CaptionItem:
    """One caption as it is read.

    Args:
        index: place in the dataset.
        image: place of the image that it describes.
        text: the caption.
        relations: (K, 3, 2) int64, the characters [start, end) of subject, predicate and object, -1, -1 where no words
            stand for the predicate; None where captions were not parsed.
    """

    index: int
    image: int
    text: str
    relations: Tensor | None = field(default=None, compare=False)
