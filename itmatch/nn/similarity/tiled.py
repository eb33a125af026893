"""The base class of similarities that are any differentiable function of the fragments of a pair."""

from __future__ import annotations

import threading
from abc import abstractmethod
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from itmatch.batch import Fragments
from itmatch.nn.similarity.base import Similarity
from itmatch.ops.pairs.over_pairs import over_pairs
from itmatch.ops.pairs.tiles import PairTile

_SWAPPING = threading.RLock()  # while a module holds other parameters than its own


class TiledSimilarity(Similarity):
    """Base class: written for a tile of images and captions, it scores all pairs in bounded memory.

    To write your own, subclass this and implement :meth:`score_tile`. What it makes for a pair is made tile by tile and
    not kept; the backward pass makes it again, for the pairs that have a gradient and for no others.

    Pairs have to be treated independently: no batch statistics and no dropout in :meth:`score_tile`. On a CPU several
    threads call it at a time, each with a tile of its own, so it must not keep anything in the module.

    Example:
        >>> import torch
        >>> class Squares(TiledSimilarity):
        ...     def score_tile(self, tile: PairTile) -> Tensor:
        ...         return tile.scores.square().sum((2, 3))[..., None]  # (i, t, W, R) -> (i, t, 1); padding adds 0
        >>> image, text = torch.randn(3, 5, 8), torch.randn(4, 6, 8)
        >>> masks = torch.ones(3, 5, dtype=torch.bool), torch.ones(4, 6, dtype=torch.bool)
        >>> Squares()(Fragments(image, masks[0]), Fragments(text, masks[1])).shape
        torch.Size([3, 4])
    """

    @abstractmethod
    def score_tile(self, tile: PairTile) -> Tensor:
        """Scores (i, t, 1) of a tile of pairs. Padded regions and words are zero; the tile's masks tell them.

        What it takes of ``tile.images`` goes through ``tile.per_image``: captions of single pairs may share an image.
        """

    def numbers_per_pair(self, image: Fragments, text: Fragments) -> int:
        """How many numbers are made for a pair beyond a few of size R * W; tiles become smaller."""
        return 0

    def image_values(self, image: Fragments) -> Tensor | None:
        """Numbers (I, R, S) beside the regions, for ``tile.images.values``; 0 where padded. None of them by default."""
        return None

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        names = tuple(f"similarity.{name}" for name, _ in self.named_parameters())
        return over_pairs(
            partial(_score_tile, self, names),
            image.features,
            image.mask,
            text.features,
            text.mask,
            output="pair",
            parameters=tuple(self.parameters()),
            image_values=self.image_values(image),
            chunk_size=self.chunk_size,
            numbers_per_pair=self.numbers_per_pair(image, text),
        )


class _OnTiles(nn.Module):
    """Makes a similarity's work on a tile a module of its own, to be called with given parameters."""

    def __init__(self, similarity: TiledSimilarity) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, tile: PairTile) -> Tensor:
        return self.similarity.score_tile(tile)


def _score_tile(similarity: TiledSimilarity, names: tuple[str, ...], tile: PairTile, *parameters: Tensor) -> Tensor:
    # every forward pass; the parameters given are the similarity's own
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return similarity.score_tile(tile)
    with _SWAPPING:
        scores: Tensor = functional_call(_OnTiles(similarity), dict(zip(names, parameters, strict=True)), (tile,))
    return scores
