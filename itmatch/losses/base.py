"""What an objective is: of a score matrix, or of one vector an image and one a caption."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from itmatch.spec import Configurable


class _Loss(Configurable, nn.Module, ABC):
    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins, counted from 0; a loss without a schedule ignores it."""


class ScoreLoss(_Loss):
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

    @abstractmethod
    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of a score matrix."""

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The loss of a model that gives all pairs the same score, or None where that is not one number.

        A training whose loss stays there learns nothing.

        Args:
            num_images: I.
            num_captions: T.
            positives: (I, T) bool; None = every image has equally many captions of the batch.
        """
        return None


class EmbeddingLoss(_Loss):
    """An objective of one vector an image and one a caption. Subclass it to write your own.

    Shape:
        - image: (N, D), the image of each pair
        - text: (N, D), the caption of each pair
        - groups: (N,) int64, pairs with the same number are of the same image; None = all differ
        - result: scalar
    """

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
