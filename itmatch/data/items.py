"""What a split gives: one image, one caption, and what the numbers on its regions are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from itmatch.batch import Regions
from itmatch.ops.checks import check_several


@dataclass(frozen=True)
class Names:
    """What the classes of regions and the predicates of relations are called, as far as somebody knows.

    Args:
        labels: of the object classes, in the order of their numbers.
        predicates: of the relations, likewise.

    Example:
        >>> names = Names(labels=("dog", "cat"))
        >>> names.label(1), names.label(7), names.label(-1), names.predicate(3)
        ('cat', 'class 7', None, 'relation 3')
    """

    labels: Sequence[str] = ()
    predicates: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse one name where several are expected."""
        check_several("labels", self.labels)
        check_several("predicates", self.predicates)

    def label(self, number: int) -> str | None:
        """The name of a class; None for the unknown one, -1."""
        return None if number < 0 else _called(self.labels, number, "class")

    def predicate(self, number: int) -> str | None:
        """The name of a predicate; None for the unknown one, -1."""
        return None if number < 0 else _called(self.predicates, number, "relation")


def _called(names: Sequence[str], number: int, what: str) -> str:
    return str(names[number]) if number < len(names) else f"{what} {number}"


@dataclass(frozen=True, eq=False)
class ImageItem:
    """One image as it is read.

    Args:
        index: place in the dataset.
        features: (R, F) float16 where they are stored so, else float32.
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


def item_of(index: int, regions: Regions) -> ImageItem:
    """The one image of a batch."""
    graph, relations, scores = regions.graph, None, None
    if graph is not None and graph.predicate is not None:
        relations = torch.stack([graph.edge_index[0], graph.predicate, graph.edge_index[1]], 1)
        scores = graph.confidence
    boxes, labels = (None if values is None else values[0] for values in (regions.boxes, regions.labels))
    return ImageItem(index, regions.features[0], boxes, labels, relations, scores)


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
