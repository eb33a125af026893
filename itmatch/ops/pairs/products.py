"""Inner products of fragments with gradients that make nothing of the size of the fragments but what is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from itmatch.ops.derivatives import first_derivative_only, wants_gradient


def gram(features: Tensor) -> Tensor:
    """(n, L, D) -> (n, L, L), the inner products of the fragments of a row."""
    if not wants_gradient(features):
        return torch.bmm(features, features.transpose(1, 2))
    found: Tensor = _Gram.apply(features)  # type: ignore[no-untyped-call]
    return found


def products_of_pairs(images: Tensor, regions: list[int], captions: Tensor, words: list[int]) -> Tensor:
    """(n, R) inner products of words with the regions of one image, 0 from where it has no more regions.

    All words of an image are multiplied at once, so that no image is copied.

    Args:
        images: (k, D), the regions of images one after the other.
        regions: of each image.
        captions: (n, D), the words that meet the first image, then those that meet the second, and so on.
        words: of each image.
    """
    found: Tensor = _ProductsOfPairs.apply(images, regions, captions, words)  # type: ignore[no-untyped-call]
    return found


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return torch.bmm(features, features.transpose(1, 2))

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.bmm(grad + grad.transpose(1, 2), ctx.saved_tensors[0])


class _ProductsOfPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, regions: list[int], captions: Tensor, words: list[int]) -> Tensor:
        ctx.save_for_backward(images, captions)
        ctx.counts = regions, words
        products = captions.new_zeros(len(captions), max(regions))
        for image, text, place in zip(*(_parts(images, captions, products, *ctx.counts)), strict=True):
            torch.mm(text, image.T, out=place[:, : len(image)])
        return products

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        images, captions = ctx.saved_tensors
        parts = list(zip(*_parts(images, captions, grad.contiguous(), *ctx.counts), strict=True))
        of_images = torch.empty_like(images) if ctx.needs_input_grad[0] else None
        of_captions = torch.empty_like(captions) if ctx.needs_input_grad[2] else None
        if of_images is not None:
            for (image, text, part), place in zip(parts, torch.split(of_images, ctx.counts[0]), strict=True):
                torch.mm(part[:, : len(image)].T, text, out=place)
        if of_captions is not None:
            for (image, _, part), place in zip(parts, torch.split(of_captions, ctx.counts[1]), strict=True):
                torch.mm(part[:, : len(image)], image, out=place)
        return of_images, None, of_captions, None


def _parts(
    images: Tensor, captions: Tensor, products: Tensor, regions: list[int], words: list[int]
) -> tuple[tuple[Tensor, ...], ...]:
    """Of each image: its regions, the words that meet it, and their products."""
    return torch.split(images, regions), torch.split(captions, words), torch.split(products, words)
