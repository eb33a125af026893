"""Ranks of encoded images and captions, from blocks of scores: the I x T matrix is never held."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.metrics import RetrievalRanks, streamed_ranks
from itmatch.ops.packing import PackedFragments


@torch.no_grad()
def rank_fragments(
    similarity: nn.Module,
    image: Fragments | PackedFragments,
    text: Fragments | PackedFragments,
    caption_image_index: Tensor,
    *,
    image_block: int = 256,
    caption_block: int = 1024,
    across_processes: bool = False,
) -> RetrievalRanks:
    """Ranks of all images and captions under a similarity.

    Args:
        similarity: two Fragments -> scores (I, T).
        image: fragments of I images.
        text: fragments of T captions.
        caption_image_index: (T,) int64, the row of ``image`` that a caption describes; across processes -1 where
            another has the image.
        image_block: largest number of images that are scored at a time.
        caption_block: largest number of captions that are scored at a time.
        across_processes: the images are spread over the processes, and each has all captions; see
            :func:`itmatch.metrics.streamed_ranks`.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    gathered: tuple[Tensor, Fragments] | None = None

    def score_block(images: Tensor, captions: Tensor) -> Tensor:
        nonlocal gathered
        # all images come with the same captions before the next captions do
        if gathered is None or gathered[0] is not captions:
            gathered = (captions, text[captions])
        first, last = int(images[0]), int(images[-1])
        scores: Tensor = similarity(image[first : last + 1], gathered[1])  # blocks of images are consecutive
        return scores

    return streamed_ranks(
        score_block,
        caption_image_index,
        len(image),
        image_block=image_block,
        caption_block=caption_block,
        across_processes=across_processes,
    )


@torch.no_grad()
def pair_scores(
    similarity: nn.Module,
    image: Fragments | PackedFragments,
    text: Fragments | PackedFragments,
    images: Tensor,
    captions: Tensor,
    *,
    block: int = 16,
) -> Tensor:
    """Scores of single pairs.

    Args:
        similarity: two Fragments -> scores (I, T).
        image: fragments of images.
        text: fragments of captions.
        images: (N,) rows of ``image``.
        captions: (N,) rows of ``text``.
        block: pairs at a time; block x block scores are computed to get block of them.

    Returns:
        (N,) scores.
    """
    parts = [
        similarity(image[images[i : i + block]], text[captions[i : i + block]]).diagonal()
        for i in range(0, len(images), block)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, device=images.device)
