"""Ranks of encoded images and captions, from blocks of scores: the I x T matrix is never held."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.metrics import RetrievalRanks, streamed_ranks


@torch.no_grad()
def rank_fragments(
    similarity: nn.Module,
    image: Fragments,
    text: Fragments,
    caption_image_index: Tensor,
    *,
    image_block: int = 256,
    caption_block: int = 1024,
) -> RetrievalRanks:
    """Ranks of all images and captions under a similarity.

    Args:
        similarity: two Fragments -> scores (I, T).
        image: fragments of I images.
        text: fragments of T captions.
        caption_image_index: (T,) int64, the row of ``image`` that a caption describes.
        image_block: largest number of images that are scored at a time.
        caption_block: largest number of captions that are scored at a time.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    gathered: tuple[Tensor | None, Fragments] = (None, text)

    def score_block(images: Tensor, captions: Tensor) -> Tensor:
        nonlocal gathered
        if gathered[0] is not captions:  # all images come with the same captions before the next captions do
            gathered = (captions, text[captions])
        first, last = int(images[0]), int(images[-1])
        scores: Tensor = similarity(image[first : last + 1], gathered[1])  # blocks of images are consecutive
        return scores

    return streamed_ranks(
        score_block, caption_image_index, len(image), image_block=image_block, caption_block=caption_block
    )


@torch.no_grad()
def pair_scores(
    similarity: nn.Module, image: Fragments, text: Fragments, images: Tensor, captions: Tensor, *, block: int = 16
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
    return torch.cat(parts) if parts else image.features.new_zeros(0)
