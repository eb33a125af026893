"""What a loader iterates over: the pairs, the images or the captions of a split."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch.utils.data import Dataset

from itmatch.data.items import CaptionItem, ImageItem
from itmatch.data.split import ImageTextSplit

Kind = TypeVar("Kind", covariant=True)


@dataclass(frozen=True)
class Chosen(Generic[Kind]):
    """The items of a batch of which nothing was read yet; iterating over them reads them one by one.

    :class:`itmatch.data.Collator` reads them all at once.

    Args:
        view: what they are items of.
        indices: their places in it.
    """

    view: View[Kind]
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Kind]:
        return (self.view[index] for index in self.indices)


class View(Dataset[Kind]):
    """Items of a split, one by one, or the places of those of a whole batch.

    Args:
        dataset: the split.
    """

    def __init__(self, dataset: ImageTextSplit) -> None:
        self.dataset = dataset

    @abstractmethod
    def __getitem__(self, index: int) -> Kind:
        """One item."""

    def __getitems__(self, indices: Sequence[int]) -> Chosen[Kind]:
        """The items of a batch, which torch's ``DataLoader`` asks for in this way."""
        return Chosen(self, list(indices))

    @abstractmethod
    def places(self, indices: Sequence[int]) -> tuple[Sequence[int] | None, Sequence[int] | None]:
        """Where the images and the captions of some items stand in the split; None = they have none."""


class PairDataset(View[tuple[ImageItem, CaptionItem]]):
    """The captions of a split, each with its image: what a model trains on."""

    def __len__(self) -> int:
        return self.dataset.num_captions

    def __getitem__(self, index: int) -> tuple[ImageItem, CaptionItem]:
        caption = self.dataset.caption(index)
        return self.dataset.image(caption.image), caption

    def places(self, indices: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Where the images and the captions of some pairs stand."""
        return self.dataset.caption_image[indices].tolist(), indices


class ImageDataset(View[ImageItem]):
    """The images of a split, each once."""

    def __len__(self) -> int:
        return self.dataset.num_images

    def __getitem__(self, index: int) -> ImageItem:
        return self.dataset.image(index)

    def places(self, indices: Sequence[int]) -> tuple[Sequence[int], None]:
        """Where some images stand."""
        return indices, None


class CaptionDataset(View[CaptionItem]):
    """The captions of a split, without their images."""

    def __len__(self) -> int:
        return self.dataset.num_captions

    def __getitem__(self, index: int) -> CaptionItem:
        return self.dataset.caption(index)

    def places(self, indices: Sequence[int]) -> tuple[None, Sequence[int]]:
        """Where some captions stand."""
        return None, indices
