"""How many scores may be computed at a time, by the memory that it takes: measured, since no similarity says."""

from __future__ import annotations

import re
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from itmatch.evaluation.ranks import slices
from itmatch.evaluation.scores import FragmentScores
from itmatch.formats.messages import shown

GRANTED = 1 << 30  # bytes, where nothing else is said
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("", "K", "M", "G", "T"))}


def byte_count(name: str, size: int | str) -> int:
    """A number of bytes from what a user writes; ``name`` is that of the setting, for error messages.

    Raises:
        ValueError: no such number.

    Example:
        >>> byte_count("memory", "1GiB"), byte_count("memory", "512 MB"), byte_count("memory", 1000)
        (1073741824, 536870912, 1000)
    """
    text = str(size) if isinstance(size, str) or (type(size) is int and 0 < size < 1 << 60) else ""
    found = re.fullmatch(r"(\d{1,19}(?:\.\d{1,6})?) ?([KMGT]?)(?:iB|B)?", text, re.IGNORECASE)
    count = 0 if found is None else int(float(found[1]) * _UNITS[found[2].upper()])
    if count < 1:
        raise ValueError(f"{name}: {shown(size)}, expected a size of memory such as 1GiB or 512MiB")
    return count


def fitting_block(
    scores: FragmentScores, memory: int, *, chunk_size: int = 256, caption_chunk_size: int = 1024
) -> tuple[int, int]:
    """The largest block of images and captions for which a similarity needs no more than so much memory.

    It is measured on the longest images and captions, from one pair on in larger and larger blocks, until what is
    wanted fits or twice as many images and captions would not. The memory of a block is taken to grow no faster than
    the number of its pairs.

    Args:
        scores: of all images and captions; a caption at least.
        memory: bytes. A single pair is a block whatever it needs.
        chunk_size: largest number of images.
        caption_chunk_size: largest number of captions.
    """
    images, captions = (_longest_first(lengths) for lengths in scores.lengths())
    most = min(chunk_size, len(images)), min(caption_chunk_size, len(captions))
    if not len(images):  # on this process
        return chunk_size, caption_chunk_size
    block = 1, 1
    while block != most:
        needed = _peak_bytes(scores, images[: block[0]], captions[: block[1]])
        pairs = block[0] * block[1]
        if needed * most[0] * most[1] <= memory * pairs:
            return most
        larger = min(2 * block[0], most[0]), min(2 * block[1], most[1])
        if needed * larger[0] * larger[1] > memory * pairs:
            return block
        block = larger
    return block


@torch.no_grad()
def held_scores(scores: FragmentScores, memory: int, *, chunk_size: int, caption_chunk_size: int) -> Tensor | None:
    """All scores (I, T), for more than one ranking of them; None if they take more than so many bytes."""
    images, captions = (torch.arange(len(lengths)) for lengths in scores.lengths())
    if not len(images):  # on this process
        return None
    kind = scores(images[:1], captions[:1])
    if len(images) * len(captions) * kind.element_size() > memory:
        return None
    held = kind.new_empty(len(images), len(captions))
    for columns in slices(len(captions), caption_chunk_size):
        chosen = captions[columns]
        for rows in slices(len(images), chunk_size):
            held[rows, columns] = scores(images[rows], chosen)
    return held


def _longest_first(lengths: Tensor) -> Tensor:
    return lengths.argsort(descending=True, stable=True)


def _peak_bytes(scores: FragmentScores, images: Tensor, captions: Tensor) -> int:
    memory = _Memory()
    with memory:
        scores(images, captions)
    return memory.peak


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made inside, on any device.

    Attributes:
        peak: most of them at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and count what it returns unless it is a part of what it was given."""
        given = {_pointer(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and _pointer(leaf) not in given:
                self._count(leaf.untyped_storage())
        return found

    def _count(self, storage: Any) -> None:
        size: int = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size


def _pointer(tensor: Tensor) -> int:
    pointer: int = tensor.untyped_storage()._cdata
    return pointer
