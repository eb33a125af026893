"""The similarities of scoring.py as a textbook writes them: a loop over the captions, all images at once.

A caption comes without its padding, every image has the same number of regions, and each attended or refined vector is
built. ``regions`` is (I, R, D), ``captions`` a list of (W, D); the result is (I, T). Hard alignment attends to nothing:
its product, of one caption with all images, is all there is to build.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

Captions = Sequence[Tensor]


def hard_alignment(regions: Tensor, captions: Captions, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """Each word takes its best region; ``pool`` reduces (I, W) to (I)."""
    return torch.stack([pool((regions @ words.T).amax(1)) for words in captions], 1)


def cross_attention(regions: Tensor, captions: Captions, query: str) -> Tensor:
    """SCAN with clipped L2 normalisation and mean pooling."""
    columns = []
    for words in captions:
        scores = leaky_relu(regions @ words.T, 0.1)  # (I, R, W)
        if query == "words":
            attended = _regions_of_words(scores, 1 / 9).mT @ regions  # (I, W, D)
            columns.append(_cosine(words.expand_as(attended), attended).mean(1))
        else:
            attended = _words_of_regions(scores, 1 / 4) @ words  # (I, R, D)
            columns.append(_cosine(regions, attended).mean(1))
    return torch.stack(columns, 1)


def interactive(regions: Tensor, captions: Captions, similarity: Any) -> Tensor:
    """Residual refinement of both sides, alignment of words and perhaps of regions, cross-level attention."""
    image_mean = torch.nn.functional.normalize(regions.mean(1), dim=-1)  # (I, D)
    refine = similarity.cross_level == "refine"
    columns = []
    for words in captions:
        scores = leaky_relu(regions @ words.T, 0.1)  # (I, R, W)
        alpha, beta = _words_of_regions(scores, 1 / 4), _regions_of_words(scores, 1 / 9)
        new_regions = regions + similarity.gamma_regions * (alpha @ words)  # (I, R, D)
        caption_mean = torch.nn.functional.normalize(words.mean(0), dim=-1)  # (D)
        region_weights = (new_regions @ caption_mean / 0.1).softmax(1)  # (I, R)
        if refine:
            beta = beta * (1 + similarity.eta * regions.shape[1] * region_weights)[..., None]
        new_words = words + similarity.gamma_words * (beta.mT @ regions)  # (I, W, D)
        word_weights = ((new_words @ image_mean[..., None]).squeeze(-1) / 0.1).softmax(1)  # (I, W)
        mu = similarity.mu if refine else 0
        sides = [(_cosine(new_words, beta.mT @ new_regions), word_weights)]
        if similarity.region_alignment:
            sides.append((_cosine(new_regions, alpha @ new_words), region_weights))
        parts = [(1 - mu) * cosines.mean(1) + mu * (weights * cosines).sum(1) for cosines, weights in sides]
        if similarity.cross_level == "score":
            image_vector = (region_weights[:, None] @ new_regions).squeeze(1)  # (I, D)
            text_vector = (word_weights[:, None] @ new_words).squeeze(1)  # (I, D)
            parts.append(_cosine(image_vector, text_vector))
        columns.append(torch.stack(parts).mean(0))
    return torch.stack(columns, 1)


def smooth_chamfer(regions: Tensor, captions: Captions) -> Tensor:
    """DivE: a smooth maximum for each fragment over the other side, with alpha 16, and the mean of both sides."""
    columns = []
    for words in captions:
        scores = 16 * (regions @ words.T)  # (I, R, W)
        columns.append((scores.logsumexp(1).mean(1) + scores.logsumexp(2).mean(1)) / 32)
    return torch.stack(columns, 1)


def blocks(views: Tensor, captions: Captions, width: int) -> Tensor:
    """AVSE: each block of a caption's vector takes the best block of any view."""
    parts = torch.nn.functional.normalize(views.reshape(len(views), -1, width), dim=-1)  # (I, B, width)
    columns = []
    for words in captions:
        own = torch.nn.functional.normalize(words.reshape(-1, width), dim=-1)
        columns.append((parts @ own.T).amax(1).sum(1))
    return torch.stack(columns, 1)


def patch_slimming(patches: Tensor, captions: Captions, similarity: Any) -> Tensor:
    """LAPS for images with a class token: chosen patches, merged tokens, cosines of these with the words."""
    unit = partial(torch.nn.functional.normalize, dim=-1)
    whole, patches = patches[:, :1], patches[:, 1:]
    logits = similarity.scale * similarity.weight(patches)  # (I, N, S)
    saliency = (unit(patches.mean(1, keepdim=True)) * unit(patches)).sum(-1).detach()  # (I, N)
    count = math.ceil(patches.shape[1] * similarity.kept)
    columns = []
    for words in captions:
        chosen = saliency + (unit(patches) @ unit(words.mean(0))).detach()
        order = chosen.argsort(1, descending=True)
        kept, rest = (torch.take_along_dim(patches, i[..., None], 1) for i in (order[:, :count], order[:, count:]))
        weights = torch.take_along_dim(logits, order[:, :count, None], 1).softmax(1)
        of_rest = torch.take_along_dim(chosen, order[:, count:], 1).softmax(1)
        fused = (of_rest[:, None] @ rest)[:, : rest.shape[1]]  # no token where all patches are kept
        tokens = torch.cat((whole, weights.mT @ kept, fused), 1)  # (I, J, D)
        scores = leaky_relu(unit(tokens) @ unit(words).T, 0.1)  # (I, J, W)
        columns.append(scores.amax(1).mean(1) + scores.amax(2).mean(1))
    return torch.stack(columns, 1)


def _regions_of_words(scores: Tensor, temperature: float) -> Tensor:
    """Attention (I, R, W) of the words: the L2 norm over the words, then a softmax over the regions."""
    return (scores / (scores.norm(dim=2, keepdim=True) + 1e-8) / temperature).softmax(1)


def _words_of_regions(scores: Tensor, temperature: float) -> Tensor:
    """Attention (I, R, W) of the regions: the L2 norm over the regions, then a softmax over the words."""
    return (scores / (scores.norm(dim=1, keepdim=True) + 1e-8) / temperature).softmax(2)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-8)
