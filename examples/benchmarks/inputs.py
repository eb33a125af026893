"""The fragments that the benchmarks score."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.nn import Similarity
from itmatch.ops import l2_normalize, lengths_to_mask

Scores = Callable[[Tensor, list[Tensor]], Tensor]  # regions (I, R, D) and captions of (W, D) to scores (I, T)


def caption_lengths(captions: int, generator: torch.Generator) -> Tensor:
    """(T,) 5 to 30 words, 13 on average, as captions of the public sets have."""
    return (12 * (0.38 * torch.randn(captions, generator=generator)).exp()).round().clamp(5, 30).long()


class Inputs:
    """Random unit fragments.

    ``regions`` and ``words`` stand for the numbers of the command line and of real captions; ``products`` is how many
    products of D numbers a region and a word need.
    """

    def __init__(
        self,
        images: int,
        captions: int,
        options: argparse.Namespace,
        *,
        grad: bool,
        regions: int | None = None,
        words: int | None = None,
        products: int = 1,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        lengths = caption_lengths(captions, generator) if words is None else torch.full((captions,), words)
        text_mask = lengths_to_mask(lengths)
        self.regions = options.regions if regions is None else regions
        image_mask = torch.ones(images, self.regions, dtype=torch.bool)
        sides = []
        for mask in (image_mask, text_mask):
            features = l2_normalize(torch.randn(*mask.shape, options.dim, generator=generator))
            features = features.masked_fill(~mask[..., None], 0).to(options.device).requires_grad_(grad)
            sides.append(Fragments(features, mask.to(options.device)))
        self.image, self.text = sides
        self.lengths = lengths.tolist()
        self.flops = 2 * products * images * self.regions * sum(self.lengths) * options.dim
        owner = torch.arange(captions) * images // captions
        self.positives = (torch.arange(images)[:, None] == owner).to(options.device)
        self.weights = torch.randn(images, captions, generator=generator).to(options.device)

    def scores_of(self, similarity: Similarity) -> Callable[[], Tensor]:
        """All scores, by the library."""
        return lambda: similarity(self.image, self.text)

    def scores_of_textbook(self, scores: Scores) -> Callable[[], Tensor]:
        """All scores, by the textbook."""

        def score() -> Tensor:
            words = [features[:n] for features, n in zip(self.text.features, self.lengths, strict=True)]
            return scores(self.image.features, words)

        return score
