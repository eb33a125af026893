"""Distillation: what other models make of a batch is what the model in training shall make of it."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses.base import Loss
from itmatch.losses.checks import check_scores
from itmatch.losses.matches import Matches
from itmatch.ops.checks import check_above_zero


def distillation_loss(scores: Tensor, *, anchor: Tensor, temperature: float = 0.1, reverse: bool = False) -> Tensor:
    r"""Divergence of the softmax of each row and column from that of another model's scores.

    Formula:
        With :math:`p_i` the softmax of row :math:`i` of :math:`s / \tau` and :math:`a_i` that of the scores of the
        anchor,

        .. math:: \frac{1}{I} \sum_i \sum_t a_{it} (\log a_{it} - \log p_{it})

        plus the same of the columns. ``reverse=True`` changes the places of :math:`a` and :math:`p`: then the model may
        leave out what the anchor allows, and not the other way round. No gradient passes through the anchor.

    Shape:
        - scores: (I, T), made for cosines
        - anchor: (I, T), the scores of the other model
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network*, 2015, on scores of pairs. The public
        code of DBL (TIP 2024) compares with it: "mutual", and reversed "dino_kl". Its "dino", the cross-entropy, has
        the same gradient as the first.

    Example:
        >>> scores = torch.tensor([[0.5, 0.25], [0.25, 0.5]])
        >>> round(distillation_loss(scores, anchor=scores + 0.1).item(), 4)  # the level of the scores does not count
        0.0
        >>> round(distillation_loss(scores, anchor=scores.flip(0)).item(), 4)
        4.2414
    """
    check_above_zero("temperature", temperature)
    scores, _ = check_scores(scores, torch.ones_like(scores, dtype=torch.bool))
    if anchor.shape != scores.shape:
        raise ValueError(f"anchor: shape {tuple(anchor.shape)}, expected that of scores, {tuple(scores.shape)}")
    logits, wanted = scores / temperature, anchor.detach().to(scores.dtype) / temperature
    return _of_rows(logits, wanted, reverse=reverse) + _of_rows(logits.T, wanted.T, reverse=reverse)


def _of_rows(logits: Tensor, wanted: Tensor, *, reverse: bool) -> Tensor:
    own, other = logits.log_softmax(1), wanted.log_softmax(1)
    first, second = (own, other) if reverse else (other, own)
    return (first.exp() * (first - second)).sum(1).mean()


class DistillationLoss(Loss):
    """Learn from models that were trained before, a fast one from a slow one; see :func:`distillation_loss`.

    It stands beside a loss of the pairs in an :class:`Objective`. Training gets the scores of the anchors from
    ``MatchingTask(anchors=[...])``; the loss is the mean over them.

    Args:
        temperature: the scores of both models are divided by it.
        reverse: the divergence of the model from the anchor in place of that of the anchor from the model.

    Example:
        >>> loss = DistillationLoss()
        >>> loss.of(Matches(torch.eye(2), anchors=torch.eye(2)[None])).item()
        0.0
    """

    needs = frozenset({"scores", "anchors"})

    def __init__(self, temperature: float = 0.1, *, reverse: bool = False) -> None:
        super().__init__()
        self.temperature = check_above_zero("temperature", temperature)
        self.reverse = reverse

    def of(self, matches: Matches) -> Tensor:
        """Loss of the scores of a batch, with those of the anchors."""
        anchors, scores = matches.get("anchors", self), matches.get("scores", self)
        if not len(anchors):
            raise ValueError(f"anchors: none, but {type(self).__name__} reads them")
        lost = [self.call(distillation_loss, scores, anchor=anchor) for anchor in anchors]
        return sum(lost[1:], start=lost[0]) / len(lost)
