"""Triplet whose margin follows how right a pair seems: wrong pairs ask for little."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_relevance, check_scores
from itmatch.losses.hinge.negatives import rule_of
from itmatch.losses.matches import Matches
from itmatch.losses.noisy.memory import PairMemory
from itmatch.losses.noisy.mixture import clean_probability
from itmatch.ops.checks import check_choice, check_not_negative, check_whole

Curve = Literal["exponential", "linear", "sine"]
Margins = Literal["pair", "image"]
Counted = Literal["hardest", "mean"]
_NEVER = -1.0  # a loss that was never measured; losses are not negative


def soft_margin_triplet_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    margin: float = 0.2,
    curve: Curve = "exponential",
    margins: Margins = "pair",
    negatives: Counted = "hardest",
) -> Tensor:
    r"""Triplet in which each positive pair has a margin of its own.

    Formula:
        With the label :math:`y_t` of the pair of caption :math:`t`, 1 = right and 0 = wrong, its margin is

        .. math:: m_t = m \, \frac{10^{y_t} - 1}{9}, \qquad m \, y_t, \qquad
            \text{or} \quad \frac{m}{2} \big(1 + \sin(\pi (y_t - \tfrac12))\big)

        for the curves "exponential", "linear" and "sine". The rest is :func:`hard_negative_triplet_loss`, summed. With
        ``negatives="mean"`` all negatives count: their sum, divided by the captions of the batch for an image, and by
        the images for a caption, is in place of each maximum.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - labels: (T,) from 0 to 1, or None: all pairs are right
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Huang et al., *Learning with Noisy Correspondence for Cross-modal Matching*, NeurIPS 2021 (NCR), eq. 9 and 10,
        and its public code, with which values and gradients agree to 1e-5.

    Deviation:
        In the authors' code the hinge of a caption with a negative image has the margin of the pair of that negative
        image; ``margins="image"`` does the same, and takes as the pair of an image that of its first caption.

    Example:
        >>> scores = torch.tensor([[0.9, 0.8], [0.1, 0.9]])
        >>> soft_margin_triplet_loss(scores)
        tensor(0.2000)
        >>> soft_margin_triplet_loss(scores, labels=torch.tensor([1.0, 0.0]))  # caption 1 is asked for nothing
        tensor(0.1000)
    """
    check_choice("margins", margins, "pair", "image")
    check_choice("negatives", negatives, "hardest", "mean")
    check_choice("curve", curve, "exponential", "linear", "sine")
    check_not_negative("margin", margin)
    diagonal = positives is None
    scores, positives = check_scores(scores, positives)
    if labels is None:
        labels = scores.new_ones(scores.shape[1])
    own = margin * _bent(_checked_labels(labels, scores), curve)  # (T,)
    # m_p + s_n - s_p is the hinge without a margin of what is left of a positive
    left = torch.where(positives, scores - own, scores)
    met = left
    if margins == "image":
        met = torch.where(positives, scores, scores + own[positives.int().argmax(1), None])
    rule = rule_of("hardest" if negatives == "hardest" else "all")
    rows = rule.of_rows(left, positives, 0.0, diagonal=diagonal).sum()
    columns = rule.of_rows(met.T, positives.T, 0.0, diagonal=diagonal).sum()
    return rows + columns if negatives == "hardest" else rows / scores.shape[1] + columns / scores.shape[0]


def _checked_labels(labels: Tensor, scores: Tensor) -> Tensor:
    if labels.shape != scores.shape[1:]:
        raise ValueError(f"labels: shape {tuple(labels.shape)}, expected one per caption, ({scores.shape[1]},)")
    return check_relevance(labels[None], scores[:1])[0]


def _bent(labels: Tensor, curve: Curve) -> Tensor:
    if curve == "exponential":
        return (10**labels - 1) / 9
    return labels if curve == "linear" else ((math.pi * (labels - 0.5)).sin() + 1) / 2


class SoftMarginTripletLoss(ScoreLoss):
    """NCR with one network: the triplet, with margins by how right each pair seems; see the function of this name.

    In the first epochs all negatives count, with one margin. What each pair loses is kept. At the start of each later
    epoch :func:`clean_probability` says of every pair how likely it is right, :math:`w`, and in a batch the label of a
    pair is :math:`y = w + (1 - w) p` where :math:`w` is above one half, else :math:`p`. Here :math:`p` is how well the
    model predicts the pair: the margin less half of what the pair loses on average over its negatives, as a share of
    the mean of the largest tenth of the batch.

    Labels are of training captions, by their places in the dataset, which :class:`Matches` holds; without places, or in
    evaluation mode, all pairs are right. What was learned is part of the state.

    Args:
        margin: of a right pair, in units of the score.
        curve: from label to margin; see :func:`soft_margin_triplet_loss`.
        margins: as there.
        warmup_epochs: epochs before the first labels, at least 1.

    Source:
        Huang et al., NeurIPS 2021 (NCR).

    Deviation:
        The authors train two networks, each of which labels the pairs of the other, and measure what the pairs lose in
        a pass of its own over the data. Here one network labels its own, from what the last epoch lost. Where all pairs
        seem right, the least likely hundredth of them counts as wrong there, here none.

    Example:
        >>> loss = SoftMarginTripletLoss(warmup_epochs=1)
        >>> round(loss(torch.eye(3)).item(), 4)
        0.0
    """

    uses = frozenset({"captions"})
    level_free = True

    fitted_epoch: Tensor

    def __init__(
        self, margin: float = 0.2, curve: Curve = "exponential", margins: Margins = "pair", warmup_epochs: int = 5
    ) -> None:
        super().__init__()
        self.margin = check_not_negative("margin", margin)
        self.curve: Curve = check_choice("curve", curve, "exponential", "linear", "sine")
        self.margins: Margins = check_choice("margins", margins, "pair", "image")
        self.warmup_epochs = check_whole("warmup_epochs", warmup_epochs)
        self.epoch = 0
        self.lost, self.clean = PairMemory(_NEVER), PairMemory(1.0)
        self.register_buffer("fitted_epoch", torch.zeros((), dtype=torch.int64))

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins; from ``warmup_epochs`` on, pairs are judged once per epoch."""
        self.epoch = epoch
        if epoch >= self.warmup_epochs and epoch != int(self.fitted_epoch):
            seen = (self.lost.values != _NEVER).nonzero()[:, 0]
            self.clean.write(seen, clean_probability(self.lost.values[seen]))
            self.fitted_epoch.fill_(epoch)

    def of(self, matches: Matches) -> Tensor:
        """Loss of the scores of a batch, with the places of its captions in the dataset."""
        loss: Tensor = self(matches.get("scores", self), matches.positives, matches.captions)
        return loss

    def forward(self, scores: Tensor, positives: Tensor | None = None, captions: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T) of captions whose places (T,) are known or not."""
        known = captions is not None and self.training
        average = _lost_on_average(*check_scores(scores.detach(), positives), self.margin) if known else None
        warm, labels = self.epoch >= self.warmup_epochs, None
        if warm and captions is not None and average is not None:
            labels = self.labels(captions, average)
        negatives: Counted = "hardest" if warm else "mean"
        loss = self.call(soft_margin_triplet_loss, scores, positives, labels=labels, negatives=negatives)
        if captions is not None and average is not None:
            self.lost.write(captions, average)
        return loss

    def labels(self, captions: Tensor, average: Tensor) -> Tensor:
        """Labels (T,) of captions, from what they lose on average (T,) in their batch."""
        clean, predicted = self.clean.read(captions).to(average), predicted_labels(average, self.margin)
        return torch.where(clean > 0.5, clean + (1 - clean) * predicted, predicted)


def predicted_labels(average: Tensor, margin: float) -> Tensor:
    """How well a model predicts pairs (T,) that lose so much on average, relative to the best tenth of them.

    Example:
        >>> predicted_labels(torch.tensor([0.0, 0.2, 0.4]), margin=0.2).tolist()
        [1.0, 0.5, 0.0]
    """
    lead = (margin - average / 2).clamp(0, margin)
    best = lead.topk(len(lead) // 10 + 1).values.mean()
    return torch.where(best > 0, lead / best, lead).clamp(max=1)


def _lost_on_average(scores: Tensor, positives: Tensor, margin: float) -> Tensor:
    """Hinges of each caption's pair, the mean over the captions and the mean over the images of a batch, added (T,)."""
    rows = positives.int().argmax(0)  # (T,)
    own = scores[rows, torch.arange(len(rows), device=rows.device)]  # (T,)
    of_row = (margin + scores[rows] - own[:, None]).clamp(min=0).masked_fill(positives[rows], 0).mean(1)
    return of_row + (margin + scores - own).clamp(min=0).masked_fill(positives, 0).mean(0)
