"""Alignment of the fragments of every image with the fragments of every caption, without the four-dimensional tensor.

Notation: ``s[i, t, r, w]`` is the inner product of region ``r`` of image ``i`` and word ``w`` of caption ``t``. There
are ``I * T * R * W`` of them; these functions make them block by block, reduce each block while it is in the cache,
and go on. *Queries* are the fragments that get a value each, *keys* those that are searched.

What is returned is float32, or float64 if an input is. Only under CUDA autocast are the inner products themselves made
in the autocast type; elsewhere half precision is converted before they are. Gradients have the type of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from itmatch.hostcopies import real_places, sent
from itmatch.ops.derivatives import first_derivative_only, wants_gradient
from itmatch.ops.pairs.blocks import Memory, PackedBlock, block_shape, key_block, packed_blocks
from itmatch.ops.pairs.few import as_they_lie, best_in_place
from itmatch.ops.pairs.sides import Query, check_query, check_sides, compute_dtype, real_or_all
from itmatch.ops.pairs.winners import gradients
from itmatch.ops.ragged import Ragged, at_places
from itmatch.ops.threads import each, even_step


def hard_alignment(
    image: Tensor,
    image_mask: Tensor | None,
    text: Tensor,
    text_mask: Tensor | None,
    *,
    query: Query = "words",
    chunk_size: int | None = None,
) -> Tensor:
    """The best region for every word, or the best word for every region, over all pairs of images and captions.

    Only real fragments enter, so padding costs nothing and cannot win. The backward pass is sparse: each query has
    one winner, and only that one receives its gradient (among equal keys, the first).

    Args:
        image: (I, R, D) region embeddings.
        image_mask: (I, R) bool; None = all real.
        text: (T, W, D) word embeddings.
        text_mask: (T, W) bool; None = all real.
        query: ``"words"``: each word takes its best region; ``"regions"``: each region its best word.
        chunk_size: images per block; bounds the memory of a block to ``chunk_size * R * 1024`` scores on a CPU. By
            default a block fits the cache. Neither results nor gradients depend on it.

    Returns:
        (I, T, W) for words, (I, T, R) for regions, in at least float32; 0 in the padded places of the queries.

    Formula:
        ``a[i, t, w] = max_r s[i, t, r, w]``, mirrored ``a[i, t, r] = max_w s[i, t, r, w]``.

    Example:
        >>> image = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
        >>> text = torch.tensor([[[0.5, 1.0], [9.0, 9.0]]])
        >>> hard_alignment(image, None, text, torch.tensor([[True, False]]))
        tensor([[[2., 0.]]])
    """
    dtype = compute_dtype(image, text)
    align: Callable[..., Tensor] = torch.ops.itmatch.hard_alignment if torch.compiler.is_compiling() else _aligned
    masks = real_or_all(image_mask, image), real_or_all(text_mask, text)
    if not torch.compiler.is_compiling() and not wants_gradient(image, text):
        return _aligned(image, masks[0], text, masks[1], query, chunk_size)  # which converts block by block
    return align(image.to(dtype), masks[0], text.to(dtype), masks[1], query, chunk_size)


def _aligned(
    image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor, query: Query, chunk_size: int | None
) -> Tensor:
    keys, queries, places, shape = _plan(image, image_mask, text, text_mask, query, chunk_size)
    if torch.is_grad_enabled() and (keys.values.requires_grad or queries.values.requires_grad):
        best: Tensor = _HardAlignment.apply(keys.values, queries.values, keys, *shape)  # type: ignore[no-untyped-call]
    else:
        values = queries.values.to(compute_dtype(image, text))
        best = best_of_rows(keys, values, shape, chunk_size if query == "words" else None)
    aligned = at_places(best, places, 1)  # (keys' rows, queries' rows, queries' width)
    return aligned if query == "words" else aligned.transpose(0, 1)


def best_of_rows(
    keys: Ragged, queries: Tensor, shape: tuple[int, int] | None = None, chunk_size: int | None = None
) -> Tensor:
    """(J, M) best inner product of each of M queries (M, D) with the keys of each of J rows, without gradients.

    Args:
        keys: the rows one after the other.
        queries: in the type of the products.
        shape: of a block, see :func:`block_shape`.
        chunk_size: rows per block.
    """
    rows, columns = shape or key_block(keys, len(queries))
    if as_they_lie(keys, queries):
        return best_in_place(keys, queries, chunk_size, columns)
    return _best_keys(keys, queries, rows, columns, winners=False)[0]


def _plan(
    image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor, query: Query, chunk_size: int | None
) -> tuple[Ragged, Ragged, Tensor, tuple[int, int]]:
    """Keys, queries, the mask of the queries, and the shape of a block."""
    check_query(query)
    check_sides(image, image_mask, text, text_mask, chunk_size)
    sides = (image, image_mask), (text, text_mask)
    keys, queries = (Ragged.from_padded(*side) for side in (sides if query == "words" else sides[::-1]))
    places = text_mask if query == "words" else image_mask
    return keys, queries, places, block_shape(keys, queries, places.shape[1], query, chunk_size)


class _HardAlignment(torch.autograd.Function):
    """(K, D) keys and (M, D) queries -> (J, M) best score of each query among the keys of each row."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, queries: Tensor, keys: Ragged, rows: int, columns: int) -> Tensor:
        best, winner = _best_keys(keys, queries, rows, columns, winners=True)
        ctx.starts = keys.starts
        ctx.save_for_backward(values, queries, winner, sent(keys.starts, winner.device))
        return best

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        keys, queries, winner, offsets = ctx.saved_tensors
        return *gradients(grad, winner, offsets, keys, queries, ctx.starts, ctx.needs_input_grad[:2]), None, None, None


def _best_keys(keys: Ragged, queries: Tensor, rows: int, columns: int, *, winners: bool) -> tuple[Tensor, Tensor]:
    """(J, M) best scores, and (J, M) place of the winner within its row (empty unless ``winners``)."""
    best = queries.new_empty(len(keys), len(queries), dtype=torch.promote_types(queries.dtype, torch.float32))
    types = ((1 << 8, torch.uint8), (1 << 15, torch.int16), (1 << 31, torch.int32))
    smallest = next(dtype for limit, dtype in types if keys.longest <= limit)
    winner = torch.empty(best.shape if winners else 0, dtype=smallest, device=best.device)
    rows = even_step(len(keys), rows, best.device)
    memory = Memory(queries, min(rows, len(keys)) * keys.longest * min(columns, len(queries)))

    def align(block: PackedBlock) -> None:
        packed = keys.values.index_select(0, block.index).to(queries.dtype)  # (k, D)
        for start in range(0, len(queries), columns):
            part = queries[start : start + columns]
            scores = memory.products[: len(packed) * len(part)].view(len(packed), len(part))
            torch.mm(packed, part.T, out=scores)
            top, place = _reduce_runs(scores, block.runs, smallest if winners else None)
            best[block.row, start : start + columns] = top.to(best.dtype)
            if place is not None:
                winner[block.row, start : start + columns] = place

    with torch.no_grad(), torch.autocast(best.device.type, enabled=False):
        each(align, packed_blocks(keys, rows), best.device, keys.values.numel() * len(queries))
    return best, winner


def _reduce_runs(
    scores: Tensor, runs: list[tuple[int, int]], index_type: torch.dtype | None
) -> tuple[Tensor, Tensor | None]:
    """Largest score of every row of a packed block (see :class:`PackedBlock`), and its place if a type is given."""
    best: Tensor | None = None
    place: Tensor | None = None
    offset = first = 0
    for places, rows in runs:
        part = scores[offset : offset + places * rows].view(places, rows, -1)
        top = part.amax(0)
        index = None if index_type is None else _first_place(part, top, index_type).add_(first)
        if best is None:
            best, place = top, index
        else:
            if index is not None and place is not None:
                place[:rows] = torch.where(top > best[:rows], index, place[:rows])
            best[:rows] = torch.maximum(best[:rows], top)
        offset, first = offset + places * rows, first + places
    assert best is not None
    return best, place


def _first_place(scores: Tensor, top: Tensor, index_type: torch.dtype) -> Tensor:
    """First place along dimension 0 at which ``scores`` equals its maximum ``top``.

    Comparing with a known maximum runs in vector instructions; ``max`` with indices does not on a CPU (5 x slower).
    """
    countdown = torch.arange(len(scores) - 1, -1, -1, device=scores.device).to(index_type)
    hits = (scores == top).to(index_type).mul_(countdown[:, None, None])
    return (len(scores) - 1 - hits.amax(0)).to(index_type)


# What is above reads values to choose its blocks, which a graph of torch.compile or torch.export cannot hold. There, it
# is one operator; its backward pass aligns again instead of keeping winners, whose number depends on the masks.
_ARGUMENTS = "Tensor image, Tensor image_mask, Tensor text, Tensor text_mask, str query, int? chunk_size"


@torch.library.custom_op("itmatch::hard_alignment", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor")
def _operator(
    image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor, query: Query, chunk_size: int | None
) -> Tensor:
    return _aligned(image, image_mask, text, text_mask, query, chunk_size).contiguous()


@_operator.register_fake
def _(
    image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor, query: Query, chunk_size: int | None
) -> Tensor:
    width = (text if query == "words" else image).shape[1]
    return image.new_empty(image.shape[0], text.shape[0], width, dtype=torch.promote_types(image.dtype, torch.float32))


@torch.library.custom_op(
    "itmatch::hard_alignment_backward", mutates_args=(), schema=f"(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor)"
)
def _backward_operator(
    grad: Tensor,
    image: Tensor,
    image_mask: Tensor,
    text: Tensor,
    text_mask: Tensor,
    query: Query,
    chunk_size: int | None,
) -> tuple[Tensor, Tensor]:
    keys, queries, places, shape = _plan(image, image_mask, text, text_mask, query, chunk_size)
    _, winner = _best_keys(keys, queries.values, *shape, winners=True)
    grad = (grad if query == "words" else grad.transpose(0, 1)).flatten(1)[:, real_places(places)]  # (J, M)
    offsets = sent(keys.starts, winner.device)
    of_keys, of_queries = gradients(grad, winner, offsets, keys.values, queries.values, keys.starts)
    assert of_keys is not None
    assert of_queries is not None
    image_grad, text_grad = (of_keys, of_queries) if query == "words" else (of_queries, of_keys)
    return at_places(image_grad, image_mask), at_places(text_grad, text_mask)


@_backward_operator.register_fake
def _(grad: Tensor, image: Tensor, image_mask: Tensor, text: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return image.new_empty(image.shape), text.new_empty(text.shape)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.query, ctx.chunk_size = inputs
    ctx.save_for_backward(*tensors)


def _operator_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    found = torch.ops.itmatch.hard_alignment_backward(grad, *ctx.saved_tensors, ctx.query, ctx.chunk_size)
    return found[0], None, found[1], None, None, None


_operator.register_autograd(_operator_backward, setup_context=_keep_inputs)
