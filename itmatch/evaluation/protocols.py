"""Benchmark protocols: what is measured on a test set, and how it is put together."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from itmatch.evaluation.ranks import RetrievalRanks
from itmatch.evaluation.recalls.figures import retrieval_metrics
from itmatch.evaluation.relevance import Relevance, RetrievedHits
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.ops.checks import check_whole
from itmatch.spec import Configurable


class ScoredSplit(ABC):
    """The scores of all images of a split with all its captions, for protocols to ask for rankings.

    Args:
        caption_image: (T,) int64, place of the image that each caption describes.
        num_images: I.
        image_ids: I names.
    """

    def __init__(self, caption_image: Tensor, num_images: int, image_ids: Sequence[str]) -> None:
        self.caption_image, self.num_images, self.image_ids = caption_image, num_images, image_ids

    @abstractmethod
    def ranks(self, images: slice = slice(None)) -> RetrievalRanks:
        """Ranks among some consecutive images and their captions alone."""

    @abstractmethod
    def hits(
        self, relevance: Relevance, places: int = 10, images: Tensor | None = None
    ) -> tuple[RetrievedHits, RetrievedHits]:
        """The first places of the rankings of all queries of a relevance, images and captions.

        With ``images`` (I,) bool only these images and their captions are queries and candidates.
        """


class EvaluationProtocol(Configurable, ABC):
    """What is measured on a test set. To write your own, subclass this and implement :meth:`measure`.

    Attributes:
        name: short name, under which the command line knows it, and its figures beside those of other protocols.
    """

    name: ClassVar[str] = ""

    def check(self, caption_image: Tensor, num_images: int) -> None:
        """Raise if a split cannot be measured; called before it is encoded.

        Args:
            caption_image: (T,) int64, place of the image that each caption describes.
            num_images: I.
        """

    @abstractmethod
    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """Figures by name; ``i2t_r1`` ... ``rsum`` are shown as a table of recalls."""


class Flickr30K(EvaluationProtocol):
    """The test set of Flickr30K as a whole: 1 000 images with five captions each.

    Args:
        num_images: images that the split has to have; any other number raises.
    """

    name = "flickr30k"

    def __init__(self, num_images: int = 1000) -> None:
        self.num_images = check_whole(f"{type(self).__name__}.num_images", num_images)

    def check(self, caption_image: Tensor, num_images: int) -> None:
        """Raise unless there are as many images as expected, with five captions each."""
        _expect(caption_image, num_images, type(self).__name__, self.num_images)

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """Recalls."""
        self.check(split.caption_image, split.num_images)
        return retrieval_metrics(split.ranks())


class Coco5K(Flickr30K):
    """The test set of MS-COCO as a whole: 5 000 images with five captions each.

    Args:
        num_images: images that the split has to have; any other number raises.
    """

    name = "coco_5k"

    def __init__(self, num_images: int = 5000) -> None:
        super().__init__(num_images)


class Coco1K(EvaluationProtocol):
    """The test set of MS-COCO in five parts of 1 000 images, in the order of the data; every figure is their mean.

    Args:
        num_images: images that the split has to have; any other number raises.
        folds: parts of equal size.
    """

    name = "coco_1k"

    def __init__(self, num_images: int = 5000, folds: int = 5) -> None:
        if check_whole("Coco1K.num_images", num_images) % check_whole("Coco1K.folds", folds):
            raise ValueError(f"Coco1K: {num_images} images in {folds} folds, expected folds of equal size")
        self.num_images, self.folds = num_images, folds

    def check(self, caption_image: Tensor, num_images: int) -> None:
        """Raise unless there are as many images as expected, with five captions each."""
        _expect(caption_image, num_images, "Coco1K", self.num_images)

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """Mean recalls; ``rsum_std`` is their standard deviation over the folds."""
        self.check(split.caption_image, split.num_images)
        size = self.num_images // self.folds
        parts = [retrieval_metrics(split.ranks(slice(k * size, (k + 1) * size))) for k in range(self.folds)]
        figures = {name: statistics.mean(part[name] for part in parts) for name in parts[0]}
        return figures | {"rsum_std": statistics.pstdev(part["rsum"] for part in parts)}


class SeveralProtocols(EvaluationProtocol):
    """Several protocols on the same scores: a split is encoded once, and scored once as far as memory is granted.

    The recalls ``i2t_r1`` ... ``rsum`` are those of the whole split. What a protocol measures has its name before it,
    ``coco_1k_rsum``, unless it has already, ``eccv_i2t_r1``.

    Args:
        members: protocols of different names.

    Example:
        >>> SeveralProtocols([Coco1K(), Coco5K()]).members[0].name
        'coco_1k'
    """

    name = "several"

    def __init__(self, members: Sequence[EvaluationProtocol]) -> None:
        self.members = list(members)
        names = [_name(member) for member in self.members]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"SeveralProtocols: {name} comes twice, and its figures would have one name")

    def check(self, caption_image: Tensor, num_images: int) -> None:
        """Raise if a split cannot be measured by all of them."""
        for member in self.members:
            member.check(caption_image, num_images)

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """The figures of all."""
        figures = retrieval_metrics(split.ranks())
        for member in self.members:
            name = _name(member)
            for figure, value in member.measure(split).items():
                figures[figure if figure.startswith(f"{name}_") else f"{name}_{figure}"] = value
        return figures


def _name(protocol: EvaluationProtocol) -> str:
    return protocol.name or type(protocol).__name__


def relevance_figures(
    prefix: str, hits: tuple[RetrievedHits, RetrievedHits], ks: Sequence[int], *, precision: bool
) -> dict[str, float]:
    """Recalls of both directions, and R-Precision and mAP@R, in percent, under ``{prefix}_i2t_r1`` and so on.

    Raises:
        ValueError: a direction has no query.
    """
    figures: dict[str, float] = {}
    for direction, found in zip(("i2t", "t2i"), hits, strict=True):
        if not len(found.queries):
            raise ValueError(f"{prefix}: no query of {direction} is in the split")
        name = f"{prefix}_{direction}"
        figures |= {f"{name}_r{k}": found.recall(k) for k in ks}
        if precision:
            figures |= {f"{name}_rprecision": found.r_precision(), f"{name}_map_at_r": found.map_at_r()}
    return figures


def _expect(caption_image: ArrayLike, found: int, name: str, num_images: int) -> None:
    captions = torch.bincount(as_tensor("caption_image", caption_image), minlength=found)
    if found != num_images or bool((captions != 5).any()):
        raise ValueError(
            f"{name}: {found} images with {int(captions.min())} to {int(captions.max())} captions, "
            f"expected {num_images} with 5; another size can be given (num_images)"
        )
