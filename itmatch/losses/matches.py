"""What a loss may read of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from itmatch.batch import Fragments


@dataclass(frozen=True, eq=False)
class Matches:
    """A batch as a loss sees it. Every field may be None: a training step computes what its loss needs.

    Args:
        scores: (I, T), row = image, column = caption.
        positives: (I, T) bool, True where the caption describes the image; None = the diagonal.
        image: (N, D), one vector per image, repeated for each of its captions.
        text: (N, D), the vector of each of these captions.
        groups: (N,) int64, pairs with the same number are of the same image; None = all differ.
        relevance: (I, T) from 0 to 1, how well each caption fits each image.
        captions: (T,) int64, place of each caption in the training split.
        anchors: (A, I, T), scores of the same images and captions by other models, without a gradient.
        fragments: those of the I images and those of the T captions.
    """

    scores: Tensor | None = None
    positives: Tensor | None = None
    image: Tensor | None = None
    text: Tensor | None = None
    groups: Tensor | None = None
    relevance: Tensor | None = None
    captions: Tensor | None = None
    anchors: Tensor | None = None
    fragments: tuple[Fragments, Fragments] | None = None

    def both_sides(self, reader: object) -> tuple[Fragments, Fragments]:
        """The fragments of images and of captions, which ``reader`` cannot do without.

        Raises:
            ValueError: there are none.
        """
        if self.fragments is None:
            raise ValueError(f"fragments: None, but {type(reader).__name__} reads them")
        return self.fragments

    def get(self, field: str, reader: object) -> Tensor:
        """A tensor that ``reader`` cannot do without.

        Raises:
            ValueError: it is None.
        """
        value: Tensor | None = getattr(self, field)
        if value is None:
            raise ValueError(f"{field}: None, but {type(reader).__name__} reads it")
        return value
