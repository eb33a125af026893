"""What a loader iterates over: the pairs, the images or the captions of a split."""

from __future__ import annotations

from torch.utils.data import Dataset

from itmatch.data.items import CaptionItem, ImageItem
from itmatch.data.split import ImageTextSplit


class PairDataset(Dataset[tuple[ImageItem, CaptionItem]]):
    """The captions of a split, each with its image: what a model trains on."""

    def __init__(self, dataset: ImageTextSplit) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return self.dataset.num_captions

    def __getitem__(self, index: int) -> tuple[ImageItem, CaptionItem]:
        caption = self.dataset.caption(index)
        return self.dataset.image(caption.image), caption


class ImageDataset(Dataset[ImageItem]):
    """The images of a split, each once."""

    def __init__(self, dataset: ImageTextSplit) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return self.dataset.num_images

    def __getitem__(self, index: int) -> ImageItem:
        return self.dataset.image(index)


class CaptionDataset(Dataset[CaptionItem]):
    """The captions of a split, without their images."""

    def __init__(self, dataset: ImageTextSplit) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return self.dataset.num_captions

    def __getitem__(self, index: int) -> CaptionItem:
        return self.dataset.caption(index)
