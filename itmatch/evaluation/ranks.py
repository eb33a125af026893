"""Ranks of retrieval in both directions, from a score matrix or from blocks of one that is never held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from itmatch.errors import NonFiniteError
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.ops.checks import check_whole
from itmatch.ops.collectives import all_reduce_sum

ScoreBlock = Callable[[Tensor, Tensor], ArrayLike]
_BLOCK_SCORES = 2**22  # scores that retrieval_ranks looks at in one go
_KEPT_BYTES = 2**27  # streamed_ranks keeps at most this much of the blocks that hold positives


class RetrievalRanks(NamedTuple):
    """Rank of the right answer to every query, 0 = best.

    A query's rank is the number of wrong candidates that score at least as high as its right answer: a tie counts
    against the model, so a constant score gives the last place.

    Args:
        image_to_text: (I,) int64, rank of the best of the image's own captions; its other captions never count. An
            image without captions is a candidate and no query: its rank is -1, and recalls leave it out.
        text_to_image: (T,) int64, rank of the caption's image.
    """

    image_to_text: Tensor
    text_to_image: Tensor


@torch.no_grad()
def retrieval_ranks(scores: ArrayLike, caption_image_index: ArrayLike) -> RetrievalRanks:
    """Ranks from a full score matrix, in any floating dtype and on any device.

    Takes a few passes over the matrix, in blocks of rows; there is no sort, and hardly any extra memory.

    Args:
        scores: (I, T), row = image, column = caption; a tensor or a numpy array.
        caption_image_index: (T,) integers, the row of the image that a caption describes; in any order, any number
            of captions per image.

    Raises:
        ValueError: a score is NaN or infinite, or the shapes do not fit.
        TypeError: scores that are not floating point, or indices that are not integers.

    Example:
        >>> scores = torch.tensor([[0.9, 0.3, 0.5], [0.8, 0.7, 0.6]])
        >>> retrieval_ranks(scores, torch.tensor([0, 0, 1]))  # captions 0 and 1 describe image 0
        RetrievalRanks(image_to_text=tensor([0, 2]), text_to_image=tensor([0, 1, 0]))
    """
    scores = as_tensor("scores", scores)
    if scores.ndim != 2 or not scores.is_floating_point():
        raise TypeError(f"scores: {tuple(scores.shape)} {scores.dtype}, expected two dimensions of a floating dtype")
    num_images, num_captions = scores.shape
    image_of = _check_index(caption_image_index, num_images).to(scores.device)
    if len(image_of) != num_captions:
        raise ValueError(f"caption_image_index: {len(image_of)} captions, the scores have {num_captions} columns")
    everything = slice(0, num_captions)
    blocks = list(slices(num_images, max(1, _BLOCK_SCORES // num_captions)))
    for rows in blocks:
        _check_finite(scores[rows], torch.arange(rows.start, rows.stop), torch.arange(num_captions))
    counter = _Counter(scores[image_of, torch.arange(num_captions, device=scores.device)], image_of, num_images)
    for rows in blocks:
        counter.add(scores[rows], rows, everything)
    return counter.ranks()


@torch.no_grad()
def streamed_ranks(
    score_block: ScoreBlock,
    caption_image_index: ArrayLike,
    num_images: int,
    *,
    chunk_size: int = 256,
    caption_chunk_size: int = 1024,
    across_processes: bool = False,
) -> RetrievalRanks:
    """Ranks from blocks of scores; the same as :func:`retrieval_ranks` of the matrix, which is never held.

    The captions are put in the order of their images, and the grid of blocks is laid over that. The blocks with
    positives, a narrow band, are scored first, and give every query the score of its right answer; then all blocks
    are counted. Blocks of the band are kept in between up to 128 MB, and beyond that scored again. Memory is O(I + T)
    and one block.

    All blocks of images of one block of captions are asked for in a row, with the very same tensor of captions, so a
    ``score_block`` may hold on to what it gathered for them.

    With ``across_processes`` the images are spread over the processes of the default process group. Each process gives
    its own images and *all* captions, in the same order as the others, and scores the one with the other. The scores of
    the right answers, and then the counts, are exchanged: 24 bytes per caption.

    Rounding: a matrix product may give another last bit in another shape. A score and its rivals come from blocks
    of one shape, except at the edges of the grid, and a query's own answers are never counted, whatever their bits.
    Similarities that gather images, or captions, of like length into tiles of their own (cross-attention, interactive
    ones) may round an exact copy of an image otherwise than the image; such a tie then goes either way.

    Args:
        score_block: takes int64 indices of images (B,) and of captions (C,), on the device of
            ``caption_image_index``, and returns their scores (B, C). It is called without gradients.
        caption_image_index: (T,) integers, the image that a caption describes; in any order. Across processes, the
            place among the images of this process, or -1 where another has the image; on the device of the scores.
        num_images: I, those of this process. Images without captions are candidates too.
        chunk_size: largest number of images in a block.
        caption_chunk_size: largest number of captions in a block.
        across_processes: every process of the group calls this with its share of the images.

    Returns:
        Ranks on the device of the scores: of this process's images, and of all captions.

    Raises:
        ValueError: a score is NaN or infinite, a block has the wrong shape, or across processes the image of a caption
            is on none of them, or on several.

    Example:
        >>> image, text = torch.eye(3), torch.eye(3)
        >>> streamed_ranks(lambda i, t: image[i] @ text[t].T, torch.arange(3), 3).text_to_image
        tensor([0, 0, 0])
    """
    check_whole("chunk_size", chunk_size)
    check_whole("caption_chunk_size", caption_chunk_size)
    index = _check_index(caption_image_index, num_images, elsewhere=across_processes)
    here = index >= 0
    # captions in the order of their images; those whose image is elsewhere come last
    order = torch.argsort(torch.where(here, index, num_images), stable=True)  # (T,)
    images = torch.arange(num_images, device=index.device)
    rows = list(slices(num_images, chunk_size))
    columns = list(slices(len(index), caption_chunk_size))
    captions = {column.start: order[column] for column in columns}

    def score(row: slice, column: slice) -> Tensor:
        chosen = images[row], captions[column.start]
        return checked_block(score_block(*chosen), *chosen)

    own, kept = _score_band(score, index[order], rows, columns)
    if across_processes:
        own = _exchange(own, order, here)
    counter = _Counter(own, index[order].to(own.device), num_images)
    for column in columns:
        for row in rows:
            block = kept.pop((row.start, column.start), None)
            counter.add(score(row, column) if block is None else block, row, column)
    ranks = counter.ranks()
    text_to_image = torch.empty_like(ranks.text_to_image)
    text_to_image[order.to(own.device)] = ranks.text_to_image
    return RetrievalRanks(ranks.image_to_text, all_reduce_sum(text_to_image) if across_processes else text_to_image)


def _score_band(
    score: Callable[[slice, slice], Tensor], image_of: Tensor, rows: list[slice], columns: list[slice]
) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """Scores of all captions whose images are here with these, and the blocks they stand in as far as may be kept."""
    own: list[Tensor] = []
    kept: dict[tuple[int, int], Tensor] = {}
    kept_bytes = 0
    for column in columns:
        here = image_of[column][image_of[column] >= 0]
        if len(here) == 0:
            continue
        for row in rows[int(here[0]) // rows[0].stop : int(here[-1]) // rows[0].stop + 1]:
            block = score(row, column)
            mine = _own_places(image_of[column], row)
            # the captions are in the order of their images, so these parts follow one another
            own.append(block[(image_of[column][mine] - row.start).to(block.device), mine.to(block.device)])
            size = block.numel() * block.element_size()
            if kept_bytes + size <= _KEPT_BYTES:
                kept[row.start, column.start] = block.clone()  # the caller may use its buffer again
                kept_bytes += size
    return torch.cat(own) if own else torch.zeros(0, device=image_of.device), kept


def _exchange(own: Tensor, order: Tensor, here: Tensor) -> Tensor:
    """Scores (T,), in ``order``, of all captions with their images, each from the process that has the image."""
    scores = torch.zeros(len(order), dtype=torch.float64, device=order.device)  # exact for scores of any dtype
    scores[order[: len(own)]] = own.double()
    processes = all_reduce_sum(here.long())
    if bool((processes != 1).any()):
        caption = int((processes != 1).nonzero()[0])
        raise ValueError(f"caption {caption}: {int(processes[caption])} processes have its image, expected one")
    return all_reduce_sum(scores)[order]


class _Counter:
    """Counts, block by block, how many candidates reach the score of each query's right answer.

    Args:
        own: (T,) score of each caption with its image.
        image_of: (T,) int64 image of each caption, -1 = elsewhere.
        num_images: I.
    """

    def __init__(self, own: Tensor, image_of: Tensor, num_images: int) -> None:
        self.own, self.image_of = own, image_of
        here = (image_of >= 0).nonzero()[:, 0]
        self.best = own.new_full((num_images,), -torch.inf)  # (I,)
        self.best.scatter_reduce_(0, image_of[here], own[here], "amax")
        self.above_image = torch.zeros(num_images, dtype=torch.int64, device=own.device)
        self.above_caption = torch.zeros(len(own), dtype=torch.int64, device=own.device)

    def add(self, block: Tensor, rows: slice, columns: slice) -> None:
        """Count one block of scores."""
        best, own, image_of = self.best[rows], self.own[columns], self.image_of[columns]
        above_image, above_caption = self.above_image[rows], self.above_caption[columns]  # views
        above_image += (block >= best[:, None]).sum(1, dtype=torch.int32)
        above_caption += (block >= own).sum(0, dtype=torch.int32)
        # Right answers are no rivals. They are taken out as they stand in this block, which may have been rounded
        # otherwise than where `own` comes from.
        mine = _own_places(image_of, rows)
        row = image_of[mine] - rows.start
        values = block[row, mine]
        above_image.index_add_(0, row, (values >= best[row]).long(), alpha=-1)
        above_caption[mine] -= (values >= own[mine]).long()

    def ranks(self) -> RetrievalRanks:
        """The counts so far."""
        return RetrievalRanks(self.above_image.masked_fill(self.best == -torch.inf, -1), self.above_caption)


def _own_places(image_of: Tensor, rows: slice) -> Tensor:
    """Where, among captions of the images ``image_of``, the ones stand whose image is in ``rows``."""
    places: Tensor = ((image_of >= rows.start) & (image_of < rows.stop)).nonzero()[:, 0]
    return places


def slices(length: int, block: int) -> Iterator[slice]:
    """Consecutive slices of at most ``block`` that cover ``length``."""
    return (slice(start, min(start + block, length)) for start in range(0, length, block))


def _check_index(given: ArrayLike, num_images: int, *, elsewhere: bool = False) -> Tensor:
    index = as_tensor("caption_image_index", given)
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise TypeError(f"caption_image_index: {tuple(index.shape)} {index.dtype}, expected one dimension of integers")
    if (num_images < 1 and not elsewhere) or len(index) < 1:
        raise ValueError(f"{num_images} images and {len(index)} captions: nothing to rank")
    least = -1 if elsewhere else 0
    if int(index.min()) < least or int(index.max()) >= num_images:
        caption = int(((index < least) | (index >= num_images)).nonzero()[0])
        raise ValueError(
            f"caption_image_index: caption {caption} has image {int(index[caption])}, not in 0..{num_images - 1}"
        )
    return index.long()


def checked_block(given: ArrayLike, images: Tensor, captions: Tensor) -> Tensor:
    """The block itself, if it holds finite scores of these images (B,) with these captions (C,)."""
    block = as_tensor("score_block", given)
    expected = (len(images), len(captions))
    if tuple(block.shape) != expected or not block.is_floating_point():
        raise ValueError(
            f"score_block returned {tuple(block.shape)} {block.dtype}, expected {expected} of a floating dtype"
        )
    _check_finite(block, images, captions)
    return block


def _check_finite(block: Tensor, images: Tensor, captions: Tensor) -> None:
    dtype = torch.float64 if block.dtype == torch.float64 else torch.float32
    if bool(torch.isfinite(block.sum(dtype=dtype))):
        return  # a finite sum has finite terms, and is much cheaper than isfinite of every term
    bad = (~torch.isfinite(block)).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        value, image, caption = block[row, column].item(), int(images[row]), int(captions[column])
        raise NonFiniteError(f"score of image {image} and caption {caption} is {value}; it must be finite")
