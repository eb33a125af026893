"""How well the captions of a split fit its images: what losses are told that grade negatives."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from typing import Literal

import torch
from torch import Tensor

from itmatch.data.split import ImageTextSplit
from itmatch.ops.checks import check_choice
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
        self._words: _Rows | None = None  # of each caption, with their weights
        self._captions: _Rows | None = None  # of each image

    def setup(self, split: ImageTextSplit) -> None:
        """Weigh the words of all captions."""
        numbers: dict[str, int] = {}
        counts = [
            Counter(numbers.setdefault(word, len(numbers)) for word in re.findall(r"\w+", text.lower()))
            for text in split.captions
        ]
        lengths = torch.tensor([len(count) for count in counts])
        words = torch.tensor([word for count in counts for word in count], dtype=torch.int64)
        times = torch.tensor([k for count in counts for k in count.values()], dtype=torch.float64)
        weights = times * (1 + ((1 + len(counts)) / (1 + words.bincount().double())).log())[words]
        row = torch.arange(len(counts)).repeat_interleave(lengths)
        norm = row.bincount(weights.square(), minlength=len(counts)).sqrt()
        self._words = _Rows(lengths, words, (weights / norm[row]).float())
        image = torch.from_numpy(split.caption_image)
        order = image.argsort(stable=True)
        self._captions = _Rows(image.bincount(minlength=split.num_images), order, torch.ones(len(order)))

    def __call__(self, images: Tensor, captions: Tensor) -> Tensor:
        """Cosines (I, T); no more than the words of these captions is laid out."""
        if self._words is None or self._captions is None:
            raise RuntimeError("CaptionOverlap: called before setup(split)")
        image, back = torch.unique(images.cpu(), return_inverse=True)
        owner, own, _ = self._captions.of(image)  # (C,) the captions of these images
        words = torch.unique(self._words.of(captions.cpu())[1])  # (U,)
        cosine = self._words.dense(own, words) @ self._words.dense(captions.cpu(), words).T  # (C, T)
        reduce = "amax" if self.over == "max" else "mean"
        relevance = cosine.new_zeros(len(image), len(captions)).scatter_reduce(
            0, owner[:, None].expand_as(cosine), cosine, reduce, include_self=False
        )
        return relevance.clamp(0, 1)[back].to(captions.device)


class _Rows:
    """Rows of unequal length: whole numbers (K,), each with a value (K,)."""

    def __init__(self, lengths: Tensor, numbers: Tensor, values: Tensor) -> None:
        self.lengths, self.starts = lengths, lengths.cumsum(0) - lengths
        self.numbers, self.values = numbers, values
        self.size = int(numbers.max()) + 1 if len(numbers) else 0

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What stands in some rows (N,): position among these rows, number and value of each entry."""
        lengths = self.lengths[rows]
        row = torch.arange(len(rows)).repeat_interleave(lengths)
        entries = (self.starts[rows] - lengths.cumsum(0) + lengths)[row] + torch.arange(len(row))
        return row, self.numbers[entries], self.values[entries]

    def dense(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Some rows (N,) as a matrix (N, U) with a column for each of some numbers (U,); others are left out."""
        row, number, value = self.of(rows)
        column = torch.full((self.size,), -1)
        column[columns] = torch.arange(len(columns))
        known = column[number] >= 0
        return torch.zeros(len(rows), len(columns)).index_put((row[known], column[number[known]]), value[known])
