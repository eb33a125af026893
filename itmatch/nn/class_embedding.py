"""Learned vectors of classes that have names: object classes, predicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itmatch.formats.files import read_json
from itmatch.formats.word_vectors import load_word_vectors
from itmatch.nn.block import Block
from itmatch.ops.checks import check_whole, check_whole_or_none

UNKNOWN = -1


class ClassEmbedding(Block):
    """One learned vector per class, started from pretrained word vectors of the classes' names if these are given.

    A name of several words, such as "sitting on", starts from the mean of those of its words that the file has; one
    without a single such word starts at random. Class -1, "unknown", has a learned vector of its own.

    Args:
        classes: number of classes, or their names in the order of their numbers, as a list or a JSON file with one.
        dim: size of a vector; None = the size of ``vectors``, or 300 without.
        vectors: GloVe or fastText text file; needs the names.
        freeze: keep the vectors as they are at the start; that of "unknown" is then 0.

    Shape:
        int64 (...) in -1 .. classes - 1 -> (..., dim)

    Example:
        >>> ClassEmbedding(["dog", "cat"], dim=4)(torch.tensor([[0, -1]])).shape
        torch.Size([1, 2, 4])
    """

    def __init__(
        self,
        classes: int | list[str] | str | Path,
        dim: int | None = None,
        vectors: str | Path | None = None,
        *,
        freeze: bool = False,
    ) -> None:
        super().__init__()
        names = _names(classes) if isinstance(classes, (Sequence, Path)) else None
        number = classes if names is None else len(names)
        self.num_classes = check_whole("ClassEmbedding.classes", number)
        check_whole_or_none("ClassEmbedding.dim", dim)
        pretrained = None if vectors is None else _name_vectors(vectors, names)
        if pretrained is not None and dim not in (None, pretrained[0].shape[1]):
            raise ValueError(f"{vectors}: word vectors of size {pretrained[0].shape[1]}, expected dim {dim}")
        self.dim = (dim or 300) if pretrained is None else pretrained[0].shape[1]
        self.embed = nn.Embedding(self.num_classes + 1, self.dim)  # the last is "unknown"
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        with torch.no_grad():
            if pretrained is not None:
                values, found = pretrained
                self.embed.weight[:-1][found] = values[found]
            if freeze:
                self.embed.weight[-1] = 0
        self.embed.weight.requires_grad_(not freeze)

    def spec_arguments(self) -> dict[str, Any]:
        """The number of classes in place of their names; the vectors are in the weights by now."""
        real = {"classes": self.num_classes, "dim": self.dim, "vectors": None}
        return super().spec_arguments() | real

    def forward(self, classes: Tensor) -> Tensor:
        """Vectors of classes.

        Raises:
            ValueError: a class outside -1 .. classes - 1; looked for on the CPU only.
        """
        if classes.device.type == "cpu" and not torch.compiler.is_compiling() and classes.numel():
            low, high = (int(value) for value in classes.aminmax())
            if low < UNKNOWN or high >= self.num_classes:
                raise ValueError(f"classes {low}..{high}, expected -1 (unknown) .. {self.num_classes - 1}")
        vectors: Tensor = self.embed(torch.where(classes < 0, self.num_classes, classes))
        return vectors


def _names(classes: Sequence[str] | str | Path) -> list[str]:
    names: list[str] = read_json(classes, list) if isinstance(classes, (str, Path)) else list(classes)
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"ClassEmbedding.classes[{i}]: a {type(name).__name__}, expected a name")
    return names


def _name_vectors(path: str | Path, names: list[str] | None) -> tuple[Tensor, Tensor]:
    """(C, size) means of the vectors of each name's words, and (C,) whether it has one at all."""
    if names is None:
        raise ValueError("ClassEmbedding.vectors needs the names: classes is a number, expected names or a file")
    words = [name.lower().replace("_", " ").replace("-", " ").split() for name in names]
    flat = sorted({word for parts in words for word in parts})
    values, found = load_word_vectors(path, flat)
    position = {word: i for i, word in enumerate(flat) if found[i]}
    vectors, known = torch.zeros(len(names), values.shape[1]), torch.zeros(len(names), dtype=torch.bool)
    for i, parts in enumerate(words):
        rows = [position[word] for word in parts if word in position]
        if rows:
            vectors[i], known[i] = values[rows].mean(0), True
    return vectors, known
