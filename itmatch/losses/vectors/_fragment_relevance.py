"""How well images and captions fit by their fragments: for each pair a mean and the largest of its alignments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from itmatch.batch import Fragments
from itmatch.ops.masking import l2_normalize, masked_max, masked_mean, or_all

LARGEST = 10  # alignments that the relevance of a pair is learned from


@dataclass(frozen=True)
class Alignments:
    """What the regions say of each caption, or the words of each image.

    Args:
        mean: (I, T), over the regions, or the words, how well each is aligned.
        largest: (I, T, 10), the best of them in descending order.
    """

    mean: Tensor
    largest: Tensor


@torch.no_grad()
def fragment_alignments(
    image: Fragments, text: Fragments, *, padding_counts: bool = False, chunk_size: int = 32
) -> tuple[Alignments, Alignments]:
    r"""How well the regions of each image, and the words of each caption, are aligned with the other side.

    Formula:
        With :math:`S_{wr} = \mathrm{LeakyReLU}_{0.1}(\cos(w, r))`, a word counts
        :math:`\alpha_w = \max_r S_{wr} / \|S_{\cdot r}\|`, a region
        :math:`\beta_r = \max_w S_{wr} / \|S_{w \cdot}\|`.

    Args:
        image: regions (I, R, D).
        text: words (T, W, D).
        padding_counts: padded regions count as real ones; of captions with less than ten words, so do the places behind
            them up to ten, in the norm over the words and among the largest.
        chunk_size: images at a time; the result does not depend on it.

    Returns:
        Those of the regions, those of the words.
    """
    parts = [
        _of_chunk(image[start : start + chunk_size], text, padding_counts=padding_counts)
        for start in range(0, len(image), chunk_size)
    ]
    regions, words = zip(*parts, strict=True)
    return _joined(regions), _joined(words)


def _of_chunk(image: Fragments, text: Fragments, *, padding_counts: bool) -> tuple[Alignments, Alignments]:
    dtype = torch.promote_types(torch.promote_types(image.features.dtype, text.features.dtype), torch.float32)
    regions, words = l2_normalize(image.features.to(dtype)), l2_normalize(text.features.to(dtype))
    real, seen, used = text.mask, image.mask, text.mask  # (T, W), (I, R), (T, W)
    if padding_counts:
        seen = torch.ones_like(seen)
        used = used | (torch.arange(used.shape[1], device=used.device) < LARGEST)
    cosines = torch.einsum("ird,twd->itrw", regions, words)
    both = seen[:, None, :, None] & used[:, None]  # (I, T, R, W)
    aligned = leaky_relu(cosines, 0.1).masked_fill(~both, 0)
    of_word = masked_max(l2_normalize(aligned, 3), seen[:, None, :, None], 2)  # (I, T, W)
    of_region = masked_max(l2_normalize(aligned, 2), real[:, None], 3)  # (I, T, R)
    of_regions = _summary(of_region, seen[:, None], seen[:, None])
    return of_regions, _summary(of_word, real, used)


def _summary(values: Tensor, counted: Tensor, listed: Tensor) -> Alignments:
    """Mean of the values (I, T, L) that are counted; the largest of those listed, 0 in the place of missing ones."""
    listed = or_all(listed, values).expand(values.shape)
    missing = LARGEST - listed.sum(2, keepdim=True)  # (I, T, 1)
    filler = torch.arange(LARGEST, device=values.device) < missing
    lowest = torch.cat((values.masked_fill(~listed, -torch.inf), torch.zeros_like(filler, dtype=values.dtype)), 2)
    lowest[..., -LARGEST:].masked_fill_(~filler, -torch.inf)
    return Alignments(masked_mean(values, counted, 2), lowest.topk(LARGEST, dim=2).values)


def _joined(parts: tuple[Alignments, ...]) -> Alignments:
    return Alignments(torch.cat([part.mean for part in parts]), torch.cat([part.largest for part in parts]))
