"""Complementary loss: unsure pairs are learned from their negatives alone."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_relevance, check_scores, pairs_of
from itmatch.losses.matches import Matches
from itmatch.losses.noisy.memory import PairMemory
from itmatch.ops.checks import check_above_zero, check_not_negative, check_share, check_whole


def complementary_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    temperature: float = 0.05,
    weight: float = 5.0,
) -> Tensor:
    r"""Cross-entropy of each pair by its label, and beside it a push away from all that is surely not its own.

    Formula:
        For a positive pair :math:`(i, t)` let :math:`p` be the softmax of :math:`s / \tau` over its caption and the
        negatives of its image, and :math:`p'` that over its image and the negatives of its caption; :math:`p_+` is the
        value at the pair, :math:`p_n` that at a negative. With the label :math:`y_t` of the pair, 1 = right and
        0 = wrong,

        .. math:: L_{it} = y_t \big(-\log p_+ - \log p'_+\big) + \lambda \Big(
            \frac{\sum_n \tan p_n}{(\tan p_+ + \sum_n \tan p_n)^{1 - y_t}} + \text{the same of } p' \Big)

        and the result is the mean over the pairs. No gradient passes through the labels.

    Shape:
        - scores: (I, T), made for cosines
        - positives: (I, T) bool, or None for the diagonal
        - labels: (T,) from 0 to 1, or None: all pairs are right
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Qin et al., *Cross-modal Active Complementary Learning with Self-refining Correspondence*, NeurIPS 2023 (CRCL),
        eq. 2 to 5, with the values of its code.

    Deviation:
        Other captions of the same image are left out; the authors' code takes them for negatives.

    Example:
        >>> round(complementary_loss(torch.zeros(2, 2)).item(), 4)  # 2 ln 2 + 5 x 2 tan 1/2
        6.8493
    """
    return _Parts(scores, positives, temperature, weight).loss(labels)


class _Parts:
    """What the loss of a batch and the beliefs of its pairs are computed from: log-softmax of each pair, both ways."""

    def __init__(self, scores: Tensor, positives: Tensor | None, temperature: float, weight: float) -> None:
        check_above_zero("temperature", temperature)
        self.weight, diagonal = check_not_negative("weight", weight), positives is None
        scores, positives = check_scores(scores, positives)
        self.captions, logits = scores.shape[1], scores / temperature
        self.row, self.column = pairs_of(positives, diagonal=diagonal)  # (P,)
        self.sides = [
            _log_shares(logits[self.row], positives[self.row], self.column),  # (P, T)
            _log_shares(logits.T[self.column], positives.T[self.column], self.row),  # (P, I)
        ]

    def beliefs(self, before: Tensor) -> Tensor:
        """How likely the model holds the pair of each caption (T,); as before for a caption without one."""
        both = (self.sides[0][0].detach().exp() + self.sides[1][0].detach().exp()) / 2  # (P,)
        count = both.new_zeros(self.captions).index_add(0, self.column, torch.ones_like(both))
        mean = both.new_zeros(self.captions).index_add(0, self.column, both) / count
        return torch.where(count > 0, mean, before)

    def loss(self, labels: Tensor | None) -> Tensor:
        """Mean over the pairs, with labels of the captions (T,)."""
        own = self.sides[0][0]
        labels = torch.ones_like(own) if labels is None else _checked_labels(labels, self.captions, own)[self.column]
        active = -(own + self.sides[1][0]) * labels
        complement = _complement(*self.sides[0], labels) + _complement(*self.sides[1], labels)
        return (active + self.weight * complement).mean()


def _log_shares(logits: Tensor, positives: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Log-softmax of the own pair (P,) and of its negatives (P, N), -inf at all positives."""
    mine = torch.arange(logits.shape[1], device=own.device) == own[:, None]
    log_shares = logits.masked_fill(positives & ~mine, -torch.inf).log_softmax(1)
    return log_shares.gather(1, own[:, None])[:, 0], log_shares.masked_fill(mine, -torch.inf)


def _complement(own: Tensor, negatives: Tensor, labels: Tensor) -> Tensor:
    others = negatives.exp().tan().sum(1)  # (P,)
    return others / (others + own.exp().tan()) ** (1 - labels)


def _checked_labels(labels: Tensor, captions: int, like: Tensor) -> Tensor:
    if labels.shape != (captions,):
        raise ValueError(f"labels: shape {tuple(labels.shape)}, expected one per caption, ({captions},)")
    return check_relevance(labels, labels).to(like)


class ComplementaryLoss(ScoreLoss):
    r"""CRCL with its memory of labels: each pair is learned by how right it has seemed so far.

    Every training caption has a label, 1 at first. In the first ``warmup_epochs`` epochs pairs are learned by it, and
    in the last of them it becomes the belief of the model, the mean of the two softmax values of the pair. From then on
    :math:`y = \mu y_{before} + (1 - \mu) \, belief`; below ``threshold`` it becomes 0.

    Labels are of training captions, by their places in the dataset, which :class:`Matches` holds; without places, or in
    evaluation mode, all pairs are right. They are part of the state.

    Args:
        temperature: scores are divided by it.
        weight: of the complementary term.
        momentum: share of the label before.
        threshold: a label below it counts as 0.
        warmup_epochs: epochs before labels change, at least 1.

    Source:
        Qin et al., NeurIPS 2023 (CRCL), see :func:`complementary_loss`.

    Deviation:
        The authors train several fresh models one after another, which hand the labels on. One does here.

    Example:
        >>> loss = ComplementaryLoss()
        >>> round(loss(torch.eye(3)).item(), 4)
        0.0
    """

    uses = frozenset({"captions"})
    level_free = True

    def __init__(
        self,
        temperature: float = 0.05,
        weight: float = 5.0,
        momentum: float = 0.8,
        threshold: float = 0.1,
        warmup_epochs: int = 2,
    ) -> None:
        super().__init__()
        self.temperature = check_above_zero("temperature", temperature)
        self.weight = check_not_negative("weight", weight)
        self.momentum = check_share("momentum", momentum)
        self.threshold = check_share("threshold", threshold)
        self.warmup_epochs = check_whole("warmup_epochs", warmup_epochs)
        self.epoch = 0
        self.memory = PairMemory(1.0)

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins, counted from 0."""
        self.epoch = epoch

    def of(self, matches: Matches) -> Tensor:
        """Loss of the scores of a batch, with the places of its captions in the dataset."""
        loss: Tensor = self(matches.get("scores", self), matches.positives, matches.captions)
        return loss

    def forward(self, scores: Tensor, positives: Tensor | None = None, captions: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T) of captions whose places (T,) are known or not."""
        parts = _Parts(scores, positives, self.temperature, self.weight)
        if captions is None or not self.training:
            return parts.loss(None)
        before = self.memory.read(captions).to(parts.sides[0][0].dtype)
        beliefs = parts.beliefs(before)
        labels = before
        if self.epoch >= self.warmup_epochs:
            labels = self.momentum * before + (1 - self.momentum) * beliefs
        labels = labels.masked_fill(labels < self.threshold, 0)
        self.memory.write(captions, beliefs if self.epoch == self.warmup_epochs - 1 else labels)
        return parts.loss(labels)
