"""How well the captions of a split fit its images: what losses are told that grade negatives."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from typing import Literal

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.data.split import ImageTextSplit
from itmatch.ops.checks import check_choice
from itmatch.ops.ragged import Ragged
from itmatch.spec import Configurable


class PairRelevance(Configurable, ABC):
    """How well each caption fits each image. Subclass it to write your own.

    Everything goes by position in the training split, so that it does not matter which process has read an image.

    Example:
        >>> class SameLength(PairRelevance):
        ...     def setup(self, split: ImageTextSplit) -> None:
        ...         self.words = torch.tensor([len(text.split()) for text in split.captions])
        ...         self.first = torch.tensor([list(split.caption_image).index(i) for i in range(split.num_images)])
        ...
        ...     def __call__(self, images: Tensor, captions: Tensor) -> Tensor:
        ...         return (self.words[self.first[images]][:, None] == self.words[captions]).float()
    """

    @abstractmethod
    def setup(self, split: ImageTextSplit) -> None:
        """Learn what has to be learned from the training split, before the first call."""

    @abstractmethod
    def __call__(self, images: Tensor, captions: Tensor) -> Tensor:
        """The relevance of some captions for some images.

        Shape:
            - images: (I,) int64, positions in the split
            - captions: (T,) int64, positions in the split
            - result: (I, T) float from 0 to 1
        """


class CaptionOverlap(PairRelevance):
    r"""How many words, weighted by their rarity, a caption shares with the captions of an image.

    Formula:
        Of :math:`N` captions, a word :math:`w` is in :math:`n_w`. A caption that has it :math:`k_w` times is the vector
        with

        .. math:: v_w = k_w \Big(1 + \ln \frac{1 + N}{1 + n_w}\Big)

        divided by its length. The relevance of caption :math:`t` for image :math:`i` is the largest cosine, or the
        mean, :math:`\max_c v_c \cdot v_t` over the captions :math:`c` of the image. With the maximum it is 1 for the
        image's own captions.

    Args:
        over: take the largest over the captions of an image, or their mean.

    Source:
        Salton and Buckley, *Term-weighting approaches in automatic text retrieval*, Information Processing and
        Management 24(5), 1988; the ones that keep a word of all captions above 0 are those of scikit-learn.

    Example:
        >>> import numpy as np
        >>> captions = ["a dog runs", "a dog", "a cat"]
        >>> split = ImageTextSplit(np.ones((2, 1, 1), np.float32), captions, np.array([0, 0, 1]))
        >>> overlap = CaptionOverlap()
        >>> overlap.setup(split)
        >>> overlap(torch.tensor([0, 1]), torch.tensor([0, 1, 2]))
        tensor([[1.0000, 1.0000, 0.3119],
                [0.2164, 0.3119, 1.0000]])
    """

    def __init__(self, over: Literal["max", "mean"] = "max") -> None:
        self.over = check_choice("over", over, "max", "mean")
        self._words: Ragged | None = None  # of each caption: (K, 2), number and weight
        self._captions: Ragged | None = None  # of each image: (T, 1)

    def setup(self, split: ImageTextSplit) -> None:
        """Weigh the words of all captions."""
        numbers: dict[str, int] = {}
        counts = [
            Counter(numbers.setdefault(word, len(numbers)) for word in re.findall(r"\w+", text.lower()))
            for text in split.captions
        ]
        row = torch.arange(len(counts)).repeat_interleave(torch.tensor([len(count) for count in counts]))
        words = torch.tensor([word for count in counts for word in count], dtype=torch.int64)
        times = torch.tensor([k for count in counts for k in count.values()], dtype=torch.float64)
        weights = times * (1 + ((1 + len(counts)) / (1 + words.bincount().double())).log())[words]
        norm = row.bincount(weights.square(), minlength=len(counts)).sqrt()
        self._words = Ragged.grouped(torch.stack((words, weights / norm[row]), 1).float(), row, len(counts))
        image = torch.from_numpy(split.caption_image)
        self._captions = Ragged.grouped(torch.arange(len(image))[:, None], image, split.num_images)

    def __call__(self, images: Tensor, captions: Tensor) -> Tensor:
        """Cosines (I, T); no more than the words of these captions is laid out."""
        if self._words is None or self._captions is None:
            raise RuntimeError("CaptionOverlap: called before setup(split)")
        image, back = torch.unique(images.cpu(), return_inverse=True)
        own = self._captions[image]
        owner = own.mask.nonzero()[:, 0]  # (C,) of the captions of these images
        text = self._words[captions.cpu()]
        known = torch.unique(text.features[text.mask][:, 0])  # (U,)
        cosine = _dense(self._words[own.features[own.mask][:, 0]], known) @ _dense(text, known).T  # (C, T)
        reduce = "amax" if self.over == "max" else "mean"
        relevance = cosine.new_zeros(len(image), len(captions)).scatter_reduce(
            0, owner[:, None].expand_as(cosine), cosine, reduce, include_self=False
        )
        return relevance.clamp(0, 1)[back].to(captions.device)


def _dense(captions: Fragments, words: Tensor) -> Tensor:
    """Weights (n, U) of some words (U,), which are sorted, in captions of (number, weight)."""
    row = captions.mask.nonzero()[:, 0]
    number, weight = captions.features[captions.mask].unbind(1)
    column = torch.bucketize(number.contiguous(), words)
    known = torch.isin(number, words)
    return torch.zeros(len(captions), len(words)).index_put((row[known], column[known]), weight[known])
