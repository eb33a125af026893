"""What a loss is given, checked: scores with their positives, paired vectors, a relevance."""

from __future__ import annotations

import torch
from torch import Tensor


def check_scores(scores: Tensor, positives: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scores in at least float32 and the mask of positives, after checking that they fit together.

    Raises:
        TypeError: scores that are not floating point, or a mask that is not boolean.
        ValueError: shapes that do not fit; no mask although I differs from T; a mask without any positive (looked at
            on the CPU only, where it costs no synchronisation).

    Example:
        >>> check_scores(torch.zeros(2, 2), None)[1].tolist()
        [[True, False], [False, True]]
    """
    if not isinstance(scores, Tensor):
        raise TypeError(f"scores: a {type(scores).__name__}, expected a tensor (images, captions)")
    if scores.ndim != 2 or scores.numel() == 0:
        raise ValueError(f"scores: shape {tuple(scores.shape)}, expected (images, captions), not empty")
    if not scores.is_floating_point():
        raise TypeError(f"scores: {scores.dtype}, expected a floating dtype")
    if positives is None:
        if scores.shape[0] != scores.shape[1]:
            raise ValueError(
                f"scores: {scores.shape[0]} images and {scores.shape[1]} captions; positives may be left out only when "
                "the two are as many, caption n describing image n"
            )
        positives = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    elif positives.dtype != torch.bool:
        raise TypeError(f"positives: {positives.dtype}, expected torch.bool")
    elif positives.shape != scores.shape:
        raise ValueError(f"positives: shape {tuple(positives.shape)}, expected that of scores, {tuple(scores.shape)}")
    elif positives.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(positives.any()):
        raise ValueError("positives: no caption describes any of the images")
    return scores if scores.dtype == torch.float64 else scores.float(), positives


def check_vectors(image: Tensor, text: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Paired vectors in at least float32 and the group of each pair, after checking that they fit together.

    Raises:
        TypeError: vectors that are not floating point, or groups that are not int64.
        ValueError: shapes that do not fit, or no pairs.

    Example:
        >>> check_vectors(torch.zeros(3, 2), torch.ones(3, 2), None)[2].tolist()
        [0, 1, 2]
    """
    if image.ndim != 2 or image.numel() == 0:
        raise ValueError(f"image: shape {tuple(image.shape)}, expected (pairs, size), not empty")
    if text.shape != image.shape:
        raise ValueError(f"text: shape {tuple(text.shape)}, expected that of image, {tuple(image.shape)}")
    for name, vectors in (("image", image), ("text", text)):
        if not vectors.is_floating_point():
            raise TypeError(f"{name}: {vectors.dtype}, expected a floating dtype")
    if groups is None:
        groups = torch.arange(len(image), device=image.device)
    elif groups.dtype != torch.int64:
        raise TypeError(f"groups: {groups.dtype}, expected torch.int64")
    elif groups.shape != image.shape[:1]:
        raise ValueError(f"groups: shape {tuple(groups.shape)}, expected one number a pair, ({len(image)},)")
    dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    return image.to(dtype), text.to(dtype), groups


def paired(image: Tensor, text: Tensor, positives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One pair a caption, from vectors of I images and T captions: what an :class:`EmbeddingLoss` takes.

    A caption that describes several of the images (the same image twice in a batch) is paired with the first.

    Shape:
        - image: (I, D)
        - text: (T, D)
        - positives: (I, T) bool
        - result: image (T, D), text (T, D), and the row of the image (T,) int64, good as ``groups`` within a batch

    Raises:
        ValueError: shapes that do not fit; a caption that describes none of the images (looked at on the CPU only).

    Example:
        >>> positives = torch.tensor([[True, True, False], [False, False, True]])
        >>> image, text, groups = paired(torch.eye(2), torch.ones(3, 2), positives)
        >>> image.tolist(), groups.tolist()
        ([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    """
    if positives.shape != (len(image), len(text)):
        raise ValueError(
            f"positives: shape {tuple(positives.shape)}, expected (images, captions), ({len(image)}, {len(text)})"
        )
    if positives.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(positives.any(0).all()):
        raise ValueError(f"positives: caption {int((~positives.any(0)).int().argmax())} describes none of the images")
    rows = positives.int().argmax(0)  # (T,), the first True of each column
    return image[rows], text, rows


def check_relevance(
    relevance: Tensor, scores: Tensor, low: float = 0.0, high: float = 1.0, *, name: str = "relevance"
) -> Tensor:
    """A number from ``low`` to ``high`` for each pair, (I, T) as the scores, in their type and without a gradient.

    Values are looked at on the CPU alone, since a GPU would have to wait.
    """
    if not relevance.is_floating_point():
        raise TypeError(f"{name}: {relevance.dtype}, expected a floating dtype")
    if relevance.shape != scores.shape:
        raise ValueError(f"{name}: shape {tuple(relevance.shape)}, expected that of scores, {tuple(scores.shape)}")
    if relevance.device.type == "cpu" and not torch.compiler.is_compiling():
        within = relevance.isfinite() & (relevance >= low) & (relevance <= high)
        if not bool(within.all()):
            row, column = (~within).nonzero()[0].tolist()
            bounds = "a finite number" if low == -torch.inf else f"a number from {low:g} to {high:g}"
            raise ValueError(f"{name}: {relevance[row, column].item():g} at ({row}, {column}), expected {bounds}")
    return relevance.detach().to(scores.dtype)


def pairs_of(mask: Tensor, *, diagonal: bool) -> tuple[Tensor, Tensor]:
    """Row and column of each True of a mask (I, T): (P,), (P,).

    Args:
        mask: (I, T) bool.
        diagonal: it is the diagonal; known without asking the mask, which would make a GPU wait.
    """
    if diagonal:
        index = torch.arange(len(mask), device=mask.device)
        return index, index
    image, caption = mask.nonzero(as_tuple=True)
    return image, caption
