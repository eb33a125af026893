"""The relations of captions as places in their text: stored compactly, and written beside precomputed features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.messages import counted
from itmatch.formats.npz import read_npz, write_npz

NOWHERE = (-1, -1)  # the span of a predicate for which no words stand
_FIELDS = ("spans", "offsets", "captions_sha256")
_INT32 = np.iinfo(np.int32)


class CaptionRelations(Sequence[Array]):
    """Relations of T captions. Entry t is (K, 3, 2) int: where subject, predicate and object of K relations stand.

    A span [start, end) counts characters of the caption; the predicate's is -1, -1 where no words stand for it. All
    entries lie in one array, so that a split of half a million captions is three arrays for the worker processes of a
    loader.

    Args:
        spans: (E, 3, 2) int, the relations of all captions.
        offsets: (T + 1,) int; those of caption t are ``spans[offsets[t] : offsets[t + 1]]``.

    Example:
        >>> relations = CaptionRelations.pack([[[(2, 5), (6, 10), (11, 17)]], []])  # "a dog sees horses", "a cat"
        >>> len(relations), relations.num_relations, relations[0].tolist(), relations[1].shape
        (2, 1, [[[2, 5], [6, 10], [11, 17]]], (0, 3, 2))
    """

    def __init__(self, spans: Array, offsets: Array) -> None:
        problem = _shape_problem(spans, offsets)
        if problem:
            raise ValueError(f"CaptionRelations: {problem}")
        _check_range(spans, "CaptionRelations: spans")
        self.spans = spans.astype(np.int32, copy=False)
        self.offsets = offsets.astype(np.int64, copy=False)

    @classmethod
    def pack(cls, relations: Sequence[Any], where: str = "caption relations") -> CaptionRelations:
        """From one entry a caption, (K, 3, 2) integers or something empty.

        Raises:
            ValueError: an entry has another shape or type; names ``where`` and the caption.
        """
        if isinstance(relations, CaptionRelations):
            return relations
        tables = [_table(entry, f"{where}: caption {caption}") for caption, entry in enumerate(relations)]
        offsets = np.concatenate([[0], np.cumsum([len(table) for table in tables], dtype=np.int64)])
        return cls(np.concatenate([*tables, np.empty((0, 3, 2), np.int32)]), offsets)

    @property
    def num_relations(self) -> int:
        """E."""
        return len(self.spans)

    def summary(self) -> str:
        """How many there are, as a sentence."""
        without = int((np.diff(self.offsets) == 0).sum())
        found = f"{counted(self.num_relations, 'relations')} of {counted(len(self), 'captions')}"
        return f"{found}, {counted(without, 'captions')} without"

    def __len__(self) -> int:
        """T."""
        return len(self.offsets) - 1

    def __getitem__(self, caption: Any) -> Any:
        """The relations of one caption, or of a slice of them."""
        if isinstance(caption, slice):
            return [self[i] for i in range(*caption.indices(len(self)))]
        if not -len(self) <= caption < len(self):
            raise IndexError(f"CaptionRelations: caption {caption} of {len(self)}")
        caption %= len(self)
        return self.spans[self.offsets[caption] : self.offsets[caption + 1]]

    def __repr__(self) -> str:
        return f"CaptionRelations({counted(self.num_relations, 'relations')} of {counted(len(self), 'captions')})"

    def problems(self, captions: Sequence[str], where: str) -> Iterator[str]:
        """What does not fit these captions: their number, spans that are empty, turned over or outside the text."""
        if len(self) != len(captions):
            yield f"{where}: relations of {len(self)} captions, expected {len(captions)}"
            return
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        length = np.array([len(text) for text in captions], np.int64)[owner, None]  # (E, 1)
        start, end = self.spans[..., 0], self.spans[..., 1]
        bad = (start < 0) | (start >= end) | (end > length)
        bad[:, 1] &= (self.spans[:, 1] != NOWHERE).any(-1)
        if bad.any():
            edge, part = (int(x) for x in np.argwhere(bad)[0])
            caption = int(owner[edge])
            number = edge - int(self.offsets[caption])
            count = int(bad.any(1).sum())
            yield (
                f"{where}: caption {caption}, relation {number}: {_PARTS[part]} at characters "
                f"{self.spans[edge, part].tolist()}, expected 0 <= start < end <= {len(captions[caption])} "
                f"in {captions[caption]!r}{' (or -1, -1)' if part == 1 else ''}"
                + (f" ({count} such in all)" if count > 1 else "")
            )

    def save(self, path: str | Path, captions: Sequence[str], *, overwrite: bool = False) -> None:
        """Write an ``.npz`` file of ``spans``, ``offsets`` and a hash of the captions, whole or not at all.

        Args:
            path: of the file.
            captions: that the relations are of.
            overwrite: replace a file that is there; otherwise it is an error.
        """
        path = user_path(path)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path}: there is one already; overwrite replaces it")
        for problem in self.problems(captions, str(path)):
            raise ValueError(problem)
        hashed = np.frombuffer(_hash(captions), np.uint8)
        write_npz(path, {"spans": self.spans, "offsets": self.offsets, "captions_sha256": hashed})

    @classmethod
    def load(cls, path: str | Path, captions: Sequence[str]) -> CaptionRelations:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no such ``.npz`` file, or it is of other captions.
        """
        path = user_path(path)
        spans, offsets, hashed = read_npz(path, _FIELDS).values()
        problem = _shape_problem(spans, offsets)
        if problem:
            raise ValueError(f"{path}: {problem}")
        _check_range(spans, f"{path}: spans")
        relations = cls(spans, offsets)
        if len(relations) != len(captions):
            raise ValueError(f"{path}: relations of {len(relations)} captions, expected {len(captions)}")
        if hashed.tobytes() != _hash(captions):
            raise ValueError(
                f"{path}: made for other captions: their number agrees, their text does not; write it again with "
                "`itmatch data parse ... --overwrite`"
            )
        return relations


_PARTS = ("subject", "predicate", "object")


def _table(entry: Any, where: str) -> Array:
    table = np.asarray(entry)
    if table.size == 0:
        return np.empty((0, 3, 2), np.int32)
    if table.ndim != 3 or table.shape[1:] != (3, 2) or table.dtype.kind not in "iu":
        raise ValueError(f"{where}: {table.dtype} of shape {table.shape}, expected integers of shape (relations, 3, 2)")
    _check_range(table, where)
    return table.astype(np.int32)


def _check_range(spans: Array, where: str) -> None:
    """Characters have to fit int32, in which they are stored; a larger number would become another one."""
    bad = np.argwhere((spans < _INT32.min) | (spans > _INT32.max))
    if len(bad):
        place = tuple(int(x) for x in bad[0])
        raise ValueError(f"{where}: relation {place[0]} has character {spans[place]}, expected -1..{_INT32.max}")


def _shape_problem(spans: Array, offsets: Array) -> str | None:
    if spans.ndim != 3 or spans.shape[1:] != (3, 2) or spans.dtype.kind not in "iu":
        return f"spans: {spans.dtype} of shape {spans.shape}, expected integers of shape (relations, 3, 2)"
    if offsets.ndim != 1 or len(offsets) == 0 or offsets.dtype.kind not in "iu":
        return f"offsets: {offsets.dtype} of shape {offsets.shape}, expected integers of shape (captions + 1,)"
    if offsets[0] != 0 or offsets[-1] != len(spans) or bool((offsets[1:] < offsets[:-1]).any()):
        return f"offsets: expected numbers that rise from 0 to {len(spans)} (relations)"
    return None


def _hash(captions: Sequence[str]) -> bytes:
    return hashlib.sha256("\n".join(captions).encode("utf-8", "surrogatepass")).digest()
