"""Rankings of encoded images and captions, from blocks of scores: the I x T matrix is never held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.evaluation.ranks import RetrievalRanks, streamed_ranks
from itmatch.ops.ragged import Ragged

AnyFragments: TypeAlias = Fragments | Ragged


class FragmentScores:
    """Scores of encoded images with encoded captions, a block at a time; of several models, their mean (an ensemble).

    Args:
        members: a similarity, the fragments of I images and those of T captions, of each model.

    Example:
        >>> from itmatch.nn import CosineSimilarity
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> scores = FragmentScores([(CosineSimilarity(), image, text)])
        >>> scores(torch.tensor([2, 0]), torch.arange(4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, members: Sequence[tuple[nn.Module, AnyFragments, AnyFragments]]) -> None:
        if not members:
            raise ValueError("FragmentScores: no members")
        sizes = [(len(image), len(text)) for _, image, text in members]
        if len(set(sizes)) != 1:
            raise ValueError(f"FragmentScores: members with {sizes} images and captions, expected as many of each")
        self.members = list(members)
        self._gathered: tuple[Tensor, list[Fragments]] | None = None

    @property
    def num_images(self) -> int:
        """I."""
        return len(self.members[0][1])

    @torch.no_grad()
    def __call__(self, images: Tensor, captions: Tensor) -> Tensor:
        """Scores (B, C) of images (B,) with captions (C,), int64; gathered captions are kept for the next call."""
        # all images come with the same captions before the next captions do
        if self._gathered is None or self._gathered[0] is not captions:
            self._gathered = (captions, [_wide(text[captions]) for _, _, text in self.members])
        first, last = int(images[0]), int(images[-1])
        together = last - first + 1 == len(images) and bool((images.diff() == 1).all())
        rows = slice(first, last + 1) if together else images
        total: Tensor | None = None
        for (similarity, image, _), text in zip(self.members, self._gathered[1], strict=True):
            scores: Tensor = similarity(_wide(image[rows]), text)
            total = scores if total is None else total + scores
        assert total is not None
        return total if len(self.members) == 1 else total / len(self.members)

    @torch.no_grad()
    def pairs(self, images: Tensor, captions: Tensor, *, chunk_size: int = 16) -> Tensor:
        """Scores (N,) of images (N,), each with one of captions (N,); to get C of them, C x C are computed."""
        parts: list[Tensor] = []
        for i in range(0, len(images), chunk_size):
            parts.append(self(images[i : i + chunk_size], captions[i : i + chunk_size]).diagonal())
        return torch.cat(parts) if parts else torch.zeros(0, device=images.device)


def _wide(fragments: Fragments) -> Fragments:
    """In at least float32; half precision may be what they are kept in."""
    return fragments.to(dtype=torch.promote_types(fragments.features.dtype, torch.float32))


def rank_fragments(
    similarity: nn.Module,
    image: AnyFragments,
    text: AnyFragments,
    caption_image_index: Tensor,
    *,
    chunk_size: int = 256,
    caption_chunk_size: int = 1024,
    across_processes: bool = False,
) -> RetrievalRanks:
    """Ranks of encoded images and captions under a similarity: :func:`streamed_ranks` of its scores.

    ``caption_image_index`` (T,) says which row of ``image`` a caption describes.
    """
    return streamed_ranks(
        FragmentScores([(similarity, image, text)]),
        caption_image_index,
        len(image),
        chunk_size=chunk_size,
        caption_chunk_size=caption_chunk_size,
        across_processes=across_processes,
    )
