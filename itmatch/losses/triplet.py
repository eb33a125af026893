"""Bidirectional hinge loss with the hardest negative, or with all."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.losses.base import ScoreLoss, check_scores, even_positives
from itmatch.ops.checks import check_choice, check_not_negative, check_whole
from itmatch.ops.masking import masked_max

Negatives = Literal["hardest", "all"]
Reduction = Literal["sum", "mean"]


def hard_negative_triplet_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    margin: float = 0.2,
    negatives: Negatives = "hardest",
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge between each positive pair and the negatives of its image and of its caption.

    Formula:
        Let :math:`P` be the positive pairs, :math:`N(i)` the captions that do not describe image :math:`i`, and
        :math:`N(t)` the images that caption :math:`t` does not describe. With ``reduction="sum"``

        .. math:: \sum_{(i,t) \in P} \max_{t' \in N(i)} [m + s_{it'} - s_{it}]_+
            + \max_{i' \in N(t)} [m + s_{i't} - s_{it}]_+

        ``negatives="all"`` has sums in place of the two maxima. ``reduction="mean"`` divides by :math:`|P|`, which is
        the batch size when nothing repeats. A maximum or sum over no negatives is 0, so a batch of one pair has loss
        0. Other captions of the same image are in neither :math:`N`.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Faghri et al., *VSE++: Improving Visual-Semantic Embeddings with Hard Negatives*, BMVC 2018.

    Example:
        >>> hard_negative_triplet_loss(torch.tensor([[0.9, 0.8], [0.1, 0.9]]), margin=0.2)
        tensor(0.2000)
    """
    _check_options(margin, negatives, reduction)
    diagonal = positives is None
    scores, positives = check_scores(scores, positives)
    if negatives == "hardest":
        loss = _hardest(scores, positives, margin)
    else:
        loss = _all(scores, positives, margin, diagonal=diagonal)
    return loss if reduction == "sum" else loss / positives.sum().clamp(min=1)


def _hardest(scores: Tensor, positives: Tensor, margin: float) -> Tensor:
    # The maximum and the hinge commute, so one maximum a row serves all positives of that row.
    negative = ~positives
    total = scores.new_zeros(())
    for dim in (1, 0):
        hardest = masked_max(scores, negative, dim).unsqueeze(dim)
        counted = positives & negative.any(dim, keepdim=True)
        total = total + (margin + hardest - scores).clamp(min=0).masked_fill(~counted, 0).sum()
    return total


def _all(scores: Tensor, positives: Tensor, margin: float, *, diagonal: bool) -> Tensor:
    if diagonal:  # known without asking the mask, which would make a GPU wait
        image = caption = torch.arange(len(scores), device=scores.device)
    else:
        image, caption = positives.nonzero(as_tuple=True)  # (P,), (P,)
    own = scores[image, caption]
    captions = (margin + scores[image] - own[:, None]).clamp(min=0)  # (P, T)
    images = (margin + scores[:, caption] - own).clamp(min=0)  # (I, P)
    return captions.masked_fill(positives[image], 0).sum() + images.masked_fill(positives[:, caption], 0).sum()


def _check_options(margin: float, negatives: str, reduction: str) -> None:
    check_not_negative("margin", margin)
    check_choice("negatives", negatives, "hardest", "all")
    check_choice("reduction", reduction, "sum", "mean")


class HardNegativeTripletLoss(ScoreLoss):
    """The family's objective: bidirectional hinge with the hardest negative; see :func:`hard_negative_triplet_loss`.

    From random weights the hardest negative alone can push all scores together; the loss then sits at
    ``2 * batch * margin`` (``reduction="sum"``). Epochs with all negatives before the others prevent it.

    Scores are scaled differently by different poolings, and the margin has to follow: 0.05 on the unscaled
    log-sum-exp of CHAN is 0.005 on the scaled one. The published settings of the family assume ``reduction="sum"``.

    Args:
        margin: wanted distance between the score of a positive and that of a negative, in units of the score.
        negatives: the hardest negative of each image and caption, or all of them.
        reduction: sum over the positive pairs, or their mean.
        warmup_epochs: number of epochs at the beginning with all negatives; takes :meth:`set_epoch`.

    Example:
        >>> loss = HardNegativeTripletLoss(margin=0.2)
        >>> loss(torch.eye(3)).item()
        0.0
        >>> round(loss.collapse_value(3, 3), 4)
        1.2
    """

    def __init__(
        self,
        margin: float = 0.2,
        negatives: Negatives = "hardest",
        reduction: Reduction = "sum",
        warmup_epochs: int = 0,
    ) -> None:
        super().__init__()
        _check_options(margin, negatives, reduction)
        check_whole("warmup_epochs", warmup_epochs, 0)
        self.margin = margin
        self.negatives: Negatives = negatives
        self.reduction: Reduction = reduction
        self.warmup_epochs = warmup_epochs
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins, counted from 0; before the first call it is epoch 0."""
        self.epoch = epoch

    @property
    def current_negatives(self) -> Negatives:
        """The negatives that count in this epoch."""
        return "all" if self.epoch < self.warmup_epochs else self.negatives

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return hard_negative_triplet_loss(
            scores, positives, margin=self.margin, negatives=self.current_negatives, reduction=self.reduction
        )

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The loss when all scores are equal: ``2 * batch * margin`` for the hardest negative and the sum."""
        mask = even_positives(num_images, num_captions) if positives is None else positives
        if mask is None:
            return None
        return self(torch.zeros(mask.shape, device=mask.device), mask).item() or None

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"margin={self.margin}, negatives={self.negatives!r}, reduction={self.reduction!r}, "
            f"warmup_epochs={self.warmup_epochs}"
        )
