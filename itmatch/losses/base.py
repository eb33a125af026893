"""What an objective is: of a score matrix, or of one vector an image and one a caption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from itmatch.spec import Configurable


class Loss(Configurable, nn.Module, ABC):
    """What all objectives have in common. Subclass :class:`ScoreLoss` or :class:`EmbeddingLoss` to write your own.

    Attributes:
        needs_scores: the loss reads a matrix of scores.
        needs_vectors: the loss reads one vector an image and one a caption.
    """

    needs_scores: bool = False
    needs_vectors: bool = False

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss, a scalar."""

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins, counted from 0; a loss without a schedule ignores it."""

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The loss of a model that gives all pairs the same score, or None where that is not one number.

        A training whose loss stays there learns nothing.

        Args:
            num_images: I.
            num_captions: T.
            positives: (I, T) bool; None = every image has equally many captions of the batch.
        """
        return None


class ScoreLoss(Loss):
    """An objective of a matrix of image-caption scores. Subclass it to write your own.

    A subclass defines ``forward`` and, if its arguments are plain values, nothing else. It never sees the model.
    Scores may be of any floating dtype; :func:`check_scores` gives them in at least float32. Scores that are NaN or
    infinite are not looked for (looking would make a GPU wait); they make the loss NaN or infinite, which
    :class:`itmatch.training.MatchingTask` refuses.

    Shape:
        - scores: (I, T), row = image, column = caption
        - positives: (I, T) bool, True where the caption describes the image; None = the diagonal, then I = T
        - result: scalar

    Example:
        >>> class Softplus(ScoreLoss):
        ...     def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        ...         scores, positives = check_scores(scores, positives)
        ...         return torch.where(positives, -scores, scores).exp().log1p().mean()
        >>> round(Softplus()(torch.eye(2)).item(), 4)
        0.5032
    """

    needs_scores = True

    @abstractmethod
    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of a score matrix."""


class EmbeddingLoss(Loss):
    """An objective of one vector an image and one a caption. Subclass it to write your own.

    :func:`check_vectors` gives the vectors in at least float32; :func:`paired` makes pairs from I images and T
    captions. :class:`itmatch.training.MatchingTask` takes the vectors from ``Fragments.pooled``, so both encoders need
    ``pooling=``, and gives as ``groups`` the place of the image in the dataset.

    Shape:
        - image: (N, D), the image of each pair
        - text: (N, D), the caption of each pair
        - groups: (N,) int64, pairs with the same number are of the same image; None = all differ
        - result: scalar
    """

    needs_vectors = True

    @abstractmethod
    def forward(self, image: Tensor, text: Tensor, groups: Tensor | None = None) -> Tensor:
        """Loss of paired vectors."""


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


def even_positives(num_images: int, num_captions: int) -> Tensor | None:
    """(I, T) bool with T / I captions an image, in order; None when that is not a whole number.

    Example:
        >>> even_positives(2, 4).int().tolist()
        [[1, 1, 0, 0], [0, 0, 1, 1]]
    """
    if num_images < 1 or num_captions < num_images or num_captions % num_images:
        return None
    return torch.arange(num_captions) // (num_captions // num_images) == torch.arange(num_images)[:, None]


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
