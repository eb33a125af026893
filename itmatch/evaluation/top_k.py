"""The first places of every ranking: the captions that an image finds, and the images that a caption finds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from itmatch.evaluation.ranks import ScoreBlock, checked_block, slices
from itmatch.evaluation.scores import FragmentScores
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.ops.checks import check_whole


class TopK(NamedTuple):
    """The candidates that N queries find first, the best one first; K is k, or all candidates if there are fewer.

    Args:
        indices: (N, K) int64, positions of the candidates, counted from 0.
        scores: (N, K) of these candidates.
    """

    indices: Tensor
    scores: Tensor

    def beside(self, candidates: Tensor, scores: Tensor) -> TopK:
        """These and more candidates (C,), with their scores (N, C)."""
        indices = candidates.expand(scores.shape)
        if not self.indices.shape[1]:
            return TopK(indices, scores)
        return TopK(torch.cat((self.indices, indices), 1), torch.cat((self.scores, scores), 1))

    def in_order(self) -> TopK:
        """The same candidates in the order of their indices."""
        return self._at(self.indices.argsort(dim=1))

    def best(self, k: int, right: Tensor | None = None) -> TopK:
        """The k best of these candidates; of equal scores the first ones.

        Args:
            k: candidates per query.
            right: (N, K) bool, right answers, which come after wrong ones of the same score.
        """
        found = self
        if right is not None and bool(right.any()):
            found = found._at(right.byte().argsort(dim=1, stable=True))
        return found._at(found.scores.argsort(dim=1, descending=True, stable=True)[:, :k])

    def _at(self, places: Tensor) -> TopK:
        return TopK(*(values.gather(1, places) for values in self))


@torch.no_grad()
def top_k(
    scores: ArrayLike | FragmentScores,
    k: int = 10,
    *,
    caption_image: ArrayLike | None = None,
    chunk_size: int = 256,
    caption_chunk_size: int = 1024,
) -> tuple[TopK, TopK]:
    """The k best captions of every image, and the k best images of every caption.

    Scores are looked at in blocks: of fragments, the (I, T) matrix is never held. No right answers are needed: images
    without captions, and captions of unknown images, are queries and candidates like all others.

    Among equal scores the lower index comes first. With ``caption_image`` a tie counts against the model, as in
    :func:`itmatch.evaluation.retrieval_ranks`: right answers come after wrong ones of the same score.

    Args:
        scores: (I, T), row = image, column = caption; or :class:`FragmentScores`, which computes them.
        k: candidates per query.
        caption_image: (T,) integers, the row of the image that a caption describes, -1 = none of them.
        chunk_size: largest number of images in a block.
        caption_chunk_size: largest number of captions in a block.

    Returns:
        The captions of all images (I, K), and the images of all captions (T, K).

    Raises:
        ValueError: a score is NaN or infinite, or the shapes do not fit.
        TypeError: scores that are not floating point.

    Example:
        >>> scores = torch.tensor([[0.9, 0.3, 0.5], [0.8, 0.7, 0.6]])
        >>> captions_of_images, images_of_captions = top_k(scores, 2)
        >>> captions_of_images.indices
        tensor([[0, 2],
                [0, 1]])
        >>> images_of_captions.indices[1]
        tensor([1, 0])
    """
    for name, value in (("k", k), ("chunk_size", chunk_size), ("caption_chunk_size", caption_chunk_size)):
        check_whole(name, value)
    score_block, num_images, num_captions = _source(scores)
    image_of = _image_of(caption_image, num_captions)
    rows = [torch.arange(num_images)[row] for row in slices(num_images, chunk_size)]
    of_images, of_captions = [_none_yet(len(row)) for row in rows], []
    for column in (torch.arange(num_captions)[column] for column in slices(num_captions, caption_chunk_size)):
        of_column = _none_yet(len(column))
        for i, row in enumerate(rows):
            block = checked_block(score_block(row, column), row, column)
            captions, images, owners = (index.to(block.device) for index in (column, row, image_of))
            found = of_images[i].beside(captions, block)
            of_images[i] = found.best(k, owners[found.indices] == images[:, None])
            found = of_column.beside(images, block.T)
            of_column = found.best(k, found.indices == owners[captions, None])
        of_captions.append(of_column)
    return _stacked(of_images, min(k, num_captions)), _stacked(of_captions, min(k, num_images))


def _source(scores: ArrayLike | FragmentScores) -> tuple[ScoreBlock, int, int]:
    """A function of blocks, and how many images and captions it knows."""
    if isinstance(scores, FragmentScores):
        return scores, scores.num_images, scores.num_captions
    matrix = as_tensor("scores", scores)
    if matrix.ndim != 2 or not matrix.is_floating_point():
        raise TypeError(f"scores: {tuple(matrix.shape)} {matrix.dtype}, expected two dimensions of a floating dtype")
    num_images, num_captions = matrix.shape
    if not matrix.numel():
        raise ValueError(f"{num_images} images and {num_captions} captions: nothing to rank")
    return (lambda row, column: matrix[row[0] : row[-1] + 1, column[0] : column[-1] + 1]), num_images, num_captions


def _image_of(given: ArrayLike | None, num_captions: int) -> Tensor:
    """(T,) the image of each caption, -1 = unknown."""
    if given is None:
        return torch.full((num_captions,), -1)
    index = as_tensor("caption_image", given)
    if index.shape != (num_captions,) or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"caption_image: {tuple(index.shape)} {index.dtype}, expected {num_captions} integers")
    return index.long()


def _none_yet(queries: int) -> TopK:
    return TopK(torch.empty(queries, 0, dtype=torch.int64), torch.empty(queries, 0))


def _stacked(parts: list[TopK], width: int) -> TopK:
    if not parts:  # a process without images
        return TopK(torch.empty(0, width, dtype=torch.int64), torch.empty(0, width))
    return TopK(torch.cat([part.indices for part in parts]), torch.cat([part.scores for part in parts]))
