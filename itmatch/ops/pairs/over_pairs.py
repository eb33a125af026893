"""Any function of the inner products of two sets of fragments, over all pairs of images and captions, in tiles.

Cross-attention, its residual refinements and their cosines are functions of three small matrices a pair: the inner
products of its regions and words, and the Gram matrices of the regions and of the words. A *kernel* computes such a
function for a tile of images and captions; :func:`over_pairs` cuts the tiles, so that memory is bounded, and gives
the whole an exact gradient. After hard-negative mining few pairs have one,
and the backward pass then recomputes these pairs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from itmatch.hostcopies import followed, on_host
from itmatch.ops.compiling import left_out_of_graphs
from itmatch.ops.derivatives import first_derivative_only, wants_gradient
from itmatch.ops.masking import lengths_to_mask
from itmatch.ops.pairs.bands import Band, met, tiles
from itmatch.ops.pairs.plans import Kernel, Output, Part, Plan, all_tiles, used_pairs
from itmatch.ops.pairs.sides import check_sides, compute_dtype, real_or_all
from itmatch.ops.pairs.tiles import FragmentGroup, PairTile
from itmatch.ops.ragged import Ragged
from itmatch.ops.threads import InOrder, each

_DENSE = 0.5  # share of pairs with a gradient from which on whole tiles are recomputed


Sides: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]  # images, their mask, captions, their mask


def over_pairs(
    kernel: Kernel,
    image: Tensor,
    image_mask: Tensor | None,
    text: Tensor,
    text_mask: Tensor | None,
    *,
    output: Output,
    parameters: tuple[Tensor, ...] = (),
    image_values: Tensor | None = None,
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
            differentiable; what it gives in padded places is dropped. On a CPU several threads call it at a time. Where
            single pairs are computed again, captions may share an image: see :meth:`PairTile.per_image`.
        image: (I, R, D).
        image_mask: (I, R) bool; None = all real.
        text: (T, W, D).
        text_mask: (T, W) bool; None = all real.
        output: what gets a value: every word, every region, or the pair as a whole.
        parameters: tensors that the kernel needs and that may need a gradient.
        image_values: (I, R, S) numbers beside the regions, that the kernel finds in ``tile.images.values`` and that may
            need a gradient; 0 where a region is padded.
        chunk_size: most images per tile; None = a number that suits the device. Values and gradients do
            not depend on it.
        numbers_per_pair: how many numbers the kernel makes for a pair beyond a few of size R * W; tiles become smaller.

    Returns:
        (I, T, W), (I, T, R) or (I, T), in at least float32; 0 in padded places.
    """
    sides = image, real_or_all(image_mask, image), text, real_or_all(text_mask, text)
    values = () if image_values is None else (image_values,)
    if torch.compiler.is_compiling() and not wants_gradient(*sides[::2], *parameters, *values):
        return _in_padded_tiles(kernel, sides, output, parameters, image_values, chunk_size)
    return _in_tiles(kernel, sides, output, parameters, image_values, chunk_size, numbers_per_pair)


@left_out_of_graphs
def _in_tiles(
    kernel: Kernel,
    sides: Sides,
    output: Output,
    parameters: tuple[Tensor, ...],
    image_values: Tensor | None,
    chunk_size: int | None,
    numbers: int,
) -> Tensor:
    image, image_mask, text, text_mask = sides
    check_sides(*sides, chunk_size)
    dtype = compute_dtype(image, text)
    image, extra = _with_values(image, image_values)
    images, captions = Ragged.over(image.to(dtype), image_mask), Ragged.over(text.to(dtype), text_mask)
    plan = Plan.make(kernel, output, extra, images, captions, chunk_size, numbers)
    values: Tensor = _OverPairs.apply(plan, images.values, captions.values, *parameters)  # type: ignore[no-untyped-call]
    if output == "pair":
        return values[..., 0]
    axis, mask = (0, text_mask) if output == "words" else (1, image_mask)
    return _unpacked(values, followed(lambda mask: mask.unsqueeze(axis), mask))


def _in_padded_tiles(
    kernel: Kernel,
    sides: Sides,
    output: Output,
    parameters: tuple[Tensor, ...],
    image_values: Tensor | None,
    chunk_size: int | None,
) -> Tensor:
    """Values whose shapes follow from those of the arguments alone, as a graph wants it."""
    image, image_mask, text, text_mask = sides
    check_sides(*sides, chunk_size)
    dtype = compute_dtype(image, text)
    image, extra = _with_values(image, image_values)
    image = image.to(dtype).masked_fill(~image_mask[..., None], 0)
    captions = FragmentGroup(text.to(dtype).masked_fill(~text_mask[..., None], 0), text_mask)
    rows = [slice(None)]
    if chunk_size is not None:  # the number of images is then fixed in the graph
        rows = [slice(start, start + chunk_size) for start in range(0, max(1, len(image)), chunk_size)]
    groups = [FragmentGroup.split(image[part], image_mask[part], extra) for part in rows]
    with torch.autocast(image.device.type, enabled=False):  # the types have been chosen
        values = torch.cat([kernel(PairTile(group, captions), *parameters) for group in groups])
    values = values.to(torch.promote_types(dtype, torch.float32))
    if output == "pair":
        return values[..., 0]
    return values.masked_fill(~(text_mask[None] if output == "words" else image_mask[:, None]), 0)


def _with_values(image: Tensor, values: Tensor | None) -> tuple[Tensor, int]:
    """Regions with numbers beside them, so that these go where the regions go; and how many numbers."""
    return (image, 0) if values is None else (torch.cat((image, values), 2), values.shape[2])


class _OverPairs(torch.autograd.Function):
    """(K, D + S) regions and (M, D) words -> (I, T, n), a kernel over all pairs; the backward pass recomputes it."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, image: Tensor, text: Tensor, *parameters: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(image, text, *parameters)
        shape = len(plan.images.lengths), len(plan.captions.lengths), plan.width(plan.images, plan.captions)
        values = image.new_zeros(shape, dtype=torch.promote_types(image.dtype, torch.float32))

        def score(pair: tuple[Band, Band]) -> None:
            for rows, columns, tile in tiles(*pair):
                part = plan.kernel(tile, *parameters)  # (i, t, n)
                values[rows.index[:, None], columns.index, : part.shape[2]] = part.to(values.dtype)

        with torch.autocast(image.device.type, enabled=False):  # the types have been chosen
            sides = plan.images.bands(image, plan.extra), plan.captions.bands(text, 0)
            pairs = met(*sides, hold_images=image.numel() < text.numel())
            each(score, pairs, image.device, image.numel() * len(text))
        return values

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> Any:
        inputs, plan = ctx.saved_tensors, ctx.plan
        needed = ctx.needs_input_grad[1:]
        sums = [torch.zeros_like(value) if need else None for value, need in zip(inputs, needed, strict=True)]
        used = (grad != 0).any(2).cpu()  # (I, T); a few in each row after hard-negative mining
        share = int(used.sum()) / max(1, used.numel())
        dense = share > _DENSE
        parts = all_tiles(plan, grad) if dense else used_pairs(plan, grad, used, inputs[0].shape[1])
        add = InOrder(partial(_add, sums))
        with torch.autocast(inputs[0].device.type, enabled=False), torch.enable_grad():
            operations = 3 * share * inputs[0].numel() * len(inputs[1])
            work = partial(_recompute, plan, inputs, needed, add)
            each(work, enumerate(parts), grad.device, operations)
        return (None, *sums)


def _recompute(
    plan: Plan, inputs: tuple[Tensor, ...], needed: tuple[bool, ...], add: InOrder, numbered: tuple[int, Part]
) -> None:
    """Compute the values of some pairs again, and from them the gradients of the inputs that need one."""
    number, part = numbered
    image, text, *parameters = inputs
    leaves = [part.images.packed(image), part.captions.packed(text), *(value.detach() for value in parameters)]
    wanted = [leaf.requires_grad_() for leaf, need in zip(leaves, needed, strict=True) if need]
    values = plan.kernel(part.tile(leaves[0], leaves[1], plan.extra), *leaves[2:])
    found: Iterator[Tensor | None] = iter(())
    if values.requires_grad:  # a kernel need not read what wants a gradient
        found = iter(torch.autograd.grad(values, wanted, part.grad.to(values.dtype), allow_unused=True))
    add(number, part, [next(found, None) if need else None for need in needed])


def _add(sums: list[Tensor | None], part: Part, gradients: list[Tensor | None]) -> None:
    """Add the gradients of some pairs to those of the inputs."""
    sides = part.images, part.captions
    for place, (total, gradient) in enumerate(zip(sums, gradients, strict=True)):
        if total is None or gradient is None:
            continue
        if place < len(sides):
            sides[place].add_to(total, gradient)
        else:
            total += gradient


def _unpacked(values: Tensor, mask: Tensor) -> Tensor:
    """(I, T, longest) values of packed fragments at the places of ``mask``, which broadcasts to (I, T, L)."""
    here, missing = on_host(mask).flatten(0, 1), mask.shape[2] - values.shape[2]
    if missing == 0 and bool(here.all()):
        return values
    if torch.equal(here, lengths_to_mask(here.sum(1), mask.shape[2])):  # they lie there already
        values = pad(values, (0, missing)) if missing else values
    else:
        place = (mask.cumsum(2) - 1).clamp(min=0).expand(*values.shape[:2], -1)
        values = values.gather(2, place)
    return torch.where(mask, values, 0)
