"""Any function of the inner products of two sets of fragments, over all pairs of images and captions, in tiles.

Cross-attention, its residual refinements and their cosines are functions of three small matrices a pair: the inner
products of its regions and words, and the Gram matrices of the regions and of the words. A *kernel* computes such a
function for a tile of images and captions; :func:`over_pairs` cuts the tiles, so that memory is bounded, and gives
the whole an exact gradient. After hard-negative mining few pairs have one,
and the backward pass then recomputes these pairs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from math import isqrt
from typing import Any, Literal, ParamSpec, TypeAlias

import torch
from torch import Tensor

from itmatch.ops.cached import cached_property
from itmatch.ops.derivatives import first_derivative_only
from itmatch.ops.masking import at_least_float32
from itmatch.ops.ragged import check_sides, compute_dtype

Output = Literal["words", "regions", "pair"]

_FRAGMENTS = {"cpu": 2048, "cuda": 8192}  # of one side in a tile
_FEW = {"cpu": 256, "cuda": 4096}  # fragments; a group of fewer takes in rows of other lengths, padded
_PADDING = 1.25  # most padded over real fragments of such a group
_DENSE = 0.5  # share of pairs with a gradient from which on whole tiles are recomputed
_NUMBERS = {"cpu": 1 << 19, "cuda": 1 << 26}  # of features of single pairs, or of what a kernel makes


@dataclass(frozen=True, eq=False)
class FragmentGroup:
    """Some images or captions: fragments (n, L, D), zero where padded, and mask (n, L), None if nothing is padded."""

    features: Tensor
    mask: Tensor | None

    @cached_property
    def vectors(self) -> Tensor:
        """(n, L, D) the fragments in at least float32, for layers on them; products want ``features``."""
        return at_least_float32(self.features)

    @cached_property
    def gram(self) -> Tensor:
        """(n, L, L) inner products of the fragments of a row."""
        return at_least_float32(torch.bmm(self.features, self.features.transpose(1, 2)))


@dataclass(frozen=True, eq=False)
class PairTile:
    """What a kernel works on: i images with t captions each, or t single pairs, then i = 1.

    Tensors of a tile are laid out as (i, t, W, R), contiguous, so that products with the Gram matrices of regions are
    large and those a pair are batched without a copy.

    Args:
        images: i images, or those of the t single pairs.
        captions: t captions.
        single: every caption has an image of its own.
    """

    images: FragmentGroup
    captions: FragmentGroup
    single: bool

    @cached_property
    def scores(self) -> Tensor:
        """(i, t, W, R) inner products of words and regions; 0 where padded."""
        images, captions = self.images.features, self.captions.features
        t, w, _ = captions.shape
        if self.single:
            return at_least_float32(torch.bmm(captions, images.transpose(1, 2)))[None]
        product = captions.flatten(0, 1) @ images.flatten(0, 1).T  # (t W, i R)
        product = product.view(t, w, images.shape[0], -1).permute(2, 0, 1, 3)
        return at_least_float32(product).contiguous()

    @cached_property
    def word_gram(self) -> Tensor:
        """(i t, W, W) inner products of the words of every pair."""
        gram = self.captions.gram
        return gram.expand(self.scores.shape[0], *gram.shape).reshape(-1, *gram.shape[1:])

    @property
    def region_mask(self) -> Tensor | None:
        """Broadcasts to (i, t, R); None when no region is padded."""
        return None if self.images.mask is None else self.per_image(self.images.mask)

    @property
    def word_mask(self) -> Tensor | None:
        """(1, t, W), broadcasts to (i, t, W); None when no word is padded."""
        return None if self.captions.mask is None else self.captions.mask[None]

    def per_image(self, values: Tensor) -> Tensor:
        """(images, n) values of images, to broadcast over captions: (i, 1, n), or (1, t, n) of single pairs."""
        return values[None] if self.single else values[:, None]

    def times_region_gram(self, weights: Tensor) -> Tensor:
        """(i, t, n, R): inner products of weighted sums of regions with the regions, from their weights."""
        gram = self.images.gram
        return torch.bmm(weights.view(gram.shape[0], -1, weights.shape[3]), gram).view_as(weights)


Kernel: TypeAlias = Callable[..., Tensor]
_P = ParamSpec("_P")


def _left_out_of_graphs(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Tiles are chosen by values, so torch.compile is told to leave them as they are, and breaks its graph there."""
    disabled: list[Callable[_P, Tensor]] = []

    @wraps(function)
    def chosen(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        if not torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if not disabled:  # not earlier, since this imports the compiler
            disabled.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return disabled[0](*args, **kwargs)

    return chosen


def over_pairs(
    kernel: Kernel,
    image: Tensor,
    image_mask: Tensor,
    text: Tensor,
    text_mask: Tensor,
    *,
    output: Output,
    parameters: tuple[Tensor, ...] = (),
    chunk_size: int | None = None,
    numbers_per_pair: int = 0,
) -> Tensor:
    """A kernel's values for all pairs of images and captions.

    In a graph of ``torch.compile`` or ``torch.export`` where no gradient is wanted, all pairs are one padded tile, or
    ``chunk_size`` images are: tiles chosen by values cannot stand in a graph. Where a gradient is wanted,
    ``torch.compile`` breaks its graph here and leaves the tiles as they are.

    Args:
        kernel: ``kernel(tile, *parameters)`` gives, for a :class:`PairTile`, (i, t, W) with ``output="words"``,
            (i, t, R) with ``"regions"``, and (i, t, 1) with ``"pair"``. It treats pairs independently and is
            differentiable; what it gives in padded places is dropped.
        image: (I, R, D).
        image_mask: (I, R) bool.
        text: (T, W, D).
        text_mask: (T, W) bool.
        output: what gets a value: every word, every region, or the pair as a whole.
        parameters: tensors that the kernel needs and that may need a gradient.
        chunk_size: most images a tile; None = a number that suits the device. Values and gradients do
            not depend on it.
        numbers_per_pair: how many numbers the kernel makes for a pair beyond a few of size R * W; tiles become smaller.

    Returns:
        (I, T, W), (I, T, R) or (I, T), in at least float32; 0 in padded places.
    """
    sides = image, image_mask, text, text_mask
    if torch.compiler.is_compiling() and not wants_gradient(image, text, *parameters):
        return _in_padded_tiles(kernel, *sides, output, parameters, chunk_size)
    return _in_tiles(kernel, *sides, output, parameters, chunk_size, numbers_per_pair)


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether what is made of some tensors now will have a gradient."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@_left_out_of_graphs
def _in_tiles(
    kernel: Kernel,
    image: Tensor,
    image_mask: Tensor,
    text: Tensor,
    text_mask: Tensor,
    output: Output,
    parameters: tuple[Tensor, ...],
    chunk_size: int | None,
    numbers_per_pair: int,
) -> Tensor:
    check_sides(image, image_mask, text, text_mask, chunk_size)
    dtype = compute_dtype(image, text)
    image, text = _packed(image.to(dtype), image_mask), _packed(text.to(dtype), text_mask)
    plan = _Plan.make(kernel, output, image_mask, text_mask, chunk_size, numbers_per_pair)
    values: Tensor = _OverPairs.apply(plan, image, text, *parameters)  # type: ignore[no-untyped-call]
    if output == "words":
        return _unpacked(values, text_mask[None])
    return _unpacked(values, image_mask[:, None]) if output == "regions" else values[..., 0]


def _in_padded_tiles(
    kernel: Kernel,
    image: Tensor,
    image_mask: Tensor,
    text: Tensor,
    text_mask: Tensor,
    output: Output,
    parameters: tuple[Tensor, ...],
    chunk_size: int | None,
) -> Tensor:
    """Values whose shapes follow from those of the arguments alone, as a graph wants it."""
    check_sides(image, image_mask, text, text_mask, chunk_size)
    dtype = compute_dtype(image, text)
    image = image.to(dtype).masked_fill(~image_mask[..., None], 0)
    captions = FragmentGroup(text.to(dtype).masked_fill(~text_mask[..., None], 0), text_mask)
    rows = [slice(None)]
    if chunk_size is not None:  # the number of images is then fixed in the graph
        rows = [slice(start, start + chunk_size) for start in range(0, max(1, len(image)), chunk_size)]
    groups = [FragmentGroup(image[part], image_mask[part]) for part in rows]
    with torch.autocast(image.device.type, enabled=False):  # the types have been chosen
        values = torch.cat([kernel(PairTile(group, captions, single=False), *parameters) for group in groups])
    values = values.to(torch.promote_types(dtype, torch.float32))
    if output == "pair":
        return values[..., 0]
    return values.masked_fill(~(text_mask[None] if output == "words" else image_mask[:, None]), 0)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one side that are worked on together: their fragments are those before ``longest``."""

    index: Tensor
    longest: int
    mask: Tensor | None

    def of(self, features: Tensor) -> Tensor:
        return features[:, : self.longest].index_select(0, self.index)


@dataclass(frozen=True, eq=False)
class _Plan:
    kernel: Kernel
    output: Output
    image_lengths: Tensor
    text_lengths: Tensor
    image_groups: list[_Rows]
    text_groups: list[_Rows]

    @classmethod
    def make(
        cls, kernel: Kernel, output: Output, image_mask: Tensor, text_mask: Tensor, chunk: int | None, numbers: int
    ) -> _Plan:
        kind = "cpu" if image_mask.device.type == "cpu" else "cuda"
        most = max(1, isqrt(_NUMBERS[kind] // numbers)) if numbers else max(len(image_mask), len(text_mask))
        image_lengths, text_lengths = image_mask.sum(1), text_mask.sum(1)
        images = list(_groups(image_lengths, kind, most if chunk is None else min(most, chunk)))
        return cls(kernel, output, image_lengths, text_lengths, images, list(_groups(text_lengths, kind, most)))


class _OverPairs(torch.autograd.Function):
    """A kernel over all pairs; the backward pass recomputes what has a gradient."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, image: Tensor, text: Tensor, *parameters: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(image, text, *parameters)
        width = {"words": text.shape[1], "regions": image.shape[1], "pair": 1}[plan.output]
        values = image.new_zeros(len(image), len(text), width, dtype=torch.promote_types(image.dtype, torch.float32))
        with torch.autocast(image.device.type, enabled=False):  # the types have been chosen
            for rows, columns, tile in _tiles(plan, image, text):
                part = plan.kernel(tile, *parameters)  # (i, t, n)
                values[rows.index[:, None], columns.index, : part.shape[2]] = part.to(values.dtype)
        return values

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> Any:
        inputs = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        sums = [torch.zeros_like(value) if need else None for value, need in zip(inputs, needed, strict=True)]
        used = (grad != 0).any(2)  # (I, T); a few in each row after hard-negative mining
        dense = int(used.sum()) > _DENSE * used.numel()
        parts = _all_tiles(ctx.plan, grad) if dense else _used_pairs(ctx.plan, grad, used, inputs[0].shape[2])
        with torch.autocast(inputs[0].device.type, enabled=False), torch.enable_grad():
            for part in parts:
                _add_gradient(ctx.plan.kernel, part, inputs, sums)
        return (None, *sums)


def _tiles(plan: _Plan, image: Tensor, text: Tensor) -> Iterator[tuple[_Rows, _Rows, PairTile]]:
    """All tiles. The groups of the smaller side are all held, with their Gram matrices; of the other, one at a time."""
    sides = ((image, plan.image_groups), (text, plan.text_groups))
    held = 0 if image.numel() < text.numel() else 1
    groups = [FragmentGroup(rows.of(sides[held][0]), rows.mask) for rows in sides[held][1]]
    for rows in sides[1 - held][1]:
        group = FragmentGroup(rows.of(sides[1 - held][0]), rows.mask)
        for others, other in zip(sides[held][1], groups, strict=True):
            if held:
                yield rows, others, PairTile(group, other, single=False)
            else:
                yield others, rows, PairTile(other, group, single=False)


@dataclass(frozen=True, eq=False)
class _Part:
    """Pairs whose gradient is computed at once, and the incoming gradient (i, t, n) of their values."""

    images: _Rows
    captions: _Rows
    grad: Tensor
    single: bool


def _all_tiles(plan: _Plan, grad: Tensor) -> Iterator[_Part]:
    for images in plan.image_groups:
        for captions in plan.text_groups:
            width = {"words": captions.longest, "regions": images.longest, "pair": 1}[plan.output]
            part = grad[images.index[:, None], captions.index, :width]
            yield _Part(images, captions, part, single=False)


def _used_pairs(plan: _Plan, grad: Tensor, used: Tensor, size: int) -> Iterator[_Part]:
    """Single pairs with a gradient, those with captions of a length together."""
    image, text = used.nonzero(as_tuple=True)
    order = (plan.text_lengths[text] * (grad.shape[2] + used.shape[1]) + plan.image_lengths[image]).argsort(stable=True)
    image, text = image[order], text[order]
    lengths = torch.stack((plan.image_lengths[image], plan.text_lengths[text]), 1).cpu()
    step = max(1, _NUMBERS["cpu" if grad.device.type == "cpu" else "cuda"] // (size * max(1, _longest(lengths))))
    for start in range(0, len(image), step):
        rows, columns, part = image[start : start + step], text[start : start + step], lengths[start : start + step]
        images = _rows(rows, part[:, 0], plan.image_lengths)
        captions = _rows(columns, part[:, 1], plan.text_lengths)
        width = {"words": captions.longest, "regions": images.longest, "pair": 1}[plan.output]
        yield _Part(images, captions, grad[rows, columns, :width][None], single=True)


def _add_gradient(kernel: Kernel, part: _Part, inputs: tuple[Tensor, ...], sums: list[Tensor | None]) -> None:
    """Recompute the values of some pairs and add their gradient to that of the inputs."""
    image, text, *parameters = inputs
    leaves = [part.images.of(image), part.captions.of(text), *(value.detach() for value in parameters)]
    wanted = [leaf.requires_grad_() for leaf, total in zip(leaves, sums, strict=True) if total is not None]
    images, captions = FragmentGroup(leaves[0], part.images.mask), FragmentGroup(leaves[1], part.captions.mask)
    values = kernel(PairTile(images, captions, single=part.single), *leaves[2:])
    found = iter(torch.autograd.grad(values, wanted, part.grad.to(values.dtype), allow_unused=True))
    for place, total in enumerate(sums):
        gradient = None if total is None else next(found)
        if total is None or gradient is None:
            continue
        if place > 1:
            total += gradient
        else:
            rows = part.captions if place else part.images
            total[:, : rows.longest].index_add_(0, rows.index, gradient)


def _packed(features: Tensor, mask: Tensor) -> Tensor:
    """The same fragments, the real ones of a row first, zeros behind."""
    if bool(mask.all()):
        return features
    lengths = mask.sum(1)
    longest = int(lengths.max()) if len(lengths) else 0
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (N, longest)
    real = torch.arange(longest, device=mask.device) < lengths[:, None]
    moved = features.gather(1, order[..., None].expand(-1, -1, features.shape[2]))
    return moved.masked_fill_(~real[..., None], 0)


def _unpacked(values: Tensor, mask: Tensor) -> Tensor:
    """(I, T, longest) values of packed fragments at the places of ``mask``, which broadcasts to (I, T, L)."""
    if values.shape[2] == mask.shape[2] and bool(mask.all()):
        return values
    if values.shape[2] == 0:
        return values.new_zeros(*values.shape[:2], mask.shape[2])
    place = (mask.cumsum(2) - 1).clamp(min=0).expand(*values.shape[:2], -1)
    return values.gather(2, place).masked_fill(~mask, 0)


def _groups(lengths: Tensor, kind: str, most: int) -> Iterator[_Rows]:
    """Rows of like length, in groups that fill a tile; on a CPU only small groups have padding."""
    order = lengths.argsort(stable=True)
    sizes = lengths[order].cpu()
    start = real = 0
    for stop, size in enumerate([*sizes.tolist(), None]):
        rows = stop - start
        if rows and (
            size is None
            or rows == most
            or (rows + 1) * size > _FRAGMENTS[kind]
            or (size != sizes[start] and (real >= _FEW[kind] or rows * size > _PADDING * real))
        ):
            yield _rows(order[start:stop], sizes[start:stop], lengths)
            start, real = stop, 0
        real += size or 0


def _rows(index: Tensor, sizes: Tensor, lengths: Tensor) -> _Rows:
    """Rows ``index`` with lengths ``sizes``, on the CPU, and ``lengths`` of all rows, on the device."""
    longest = _longest(sizes)
    uniform = bool((sizes == longest).all())
    mask = None if uniform else torch.arange(longest, device=index.device) < lengths[index, None]
    return _Rows(index, longest, mask)


def _longest(sizes: Tensor) -> int:
    return int(sizes.max()) if sizes.numel() else 0
