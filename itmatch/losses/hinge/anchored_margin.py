"""Triplet that asks for more than other models reach already."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from itmatch.losses.checks import check_scores
from itmatch.losses.hinge.negatives import Negatives, NegativesName
from itmatch.losses.hinge.triplet import HardNegativeTripletLoss, hard_negative_triplet_loss
from itmatch.losses.matches import Matches
from itmatch.losses.reductions import Reduction, check_reduction, reduced
from itmatch.ops.checks import check_choice, check_not_negative, check_share
from itmatch.ops.masking import masked_max

Lead = Literal["absolute", "relative"]


def anchored_margin_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    anchor: Tensor,
    anchor_margin: float = 0.2,
    lead: Lead = "absolute",
    positive_share: float = 0.5,
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge between the scores of a model and those of another one, its anchor, for the same images and captions.

    Formula:
        With the scores :math:`a` of the anchor, margin :math:`m` and share :math:`\gamma`, a positive pair
        :math:`(i, t)` with the negatives :math:`N(i)` and :math:`N(t)` of its image and caption loses

        .. math:: 2 [\gamma m + a_{it} - s_{it}]_+ + \max_{t' \in N(i)} [(1 - \gamma) m + s_{it'} - a_{it'}]_+
            + \max_{i' \in N(t)} [(1 - \gamma) m + s_{i't} - a_{i't}]_+

        with ``lead="absolute"``: positives score higher than those of the anchor, and negatives lower. With
        ``lead="relative"`` the differences are compared,

        .. math:: \max_{t' \in N(i)} [m + (a_{it} - a_{it'}) - (s_{it} - s_{it'})]_+
            + \max_{i' \in N(t)} [m + (a_{it} - a_{i't}) - (s_{it} - s_{i't})]_+

        and the result is the sum over the positive pairs. No gradient passes through the anchor.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - anchor: (I, T), the scores of the other model
        - result: scalar, float32 (float64 for float64 scores); (P,) for ``reduction="none"``

    Source:
        Diao, Zhang, Liu, Ruan and Lu, *Deep Boosting Learning: A Brand-new Cooperative Approach for Image-Text
        Matching*, IEEE Transactions on Image Processing 33, 2024 (DBL), and its public code, with which values and
        gradients agree to 1e-5.

    Deviation:
        Other captions of the same image are no negatives; the authors' code knows the diagonal alone.

    Example:
        >>> import torch
        >>> anchor = torch.tensor([[0.5, 0.25], [0.25, 0.5]])
        >>> anchored_margin_loss(anchor, anchor=anchor)  # as good as the anchor: 2 pairs x (2 x 0.1 + 0.1 + 0.1)
        tensor(0.8000)
        >>> better = torch.tensor([[0.6, 0.15], [0.15, 0.6]])
        >>> round(anchored_margin_loss(better, anchor=anchor).item(), 4)
        0.0
    """
    check_not_negative("anchor_margin", anchor_margin)
    check_choice("lead", lead, "absolute", "relative")
    check_share("positive_share", positive_share)
    check_reduction(reduction)
    mask = positives
    scores, positives = check_scores(scores, positives)
    if anchor.shape != scores.shape:
        raise ValueError(f"anchor: shape {tuple(anchor.shape)}, expected that of scores, {tuple(scores.shape)}")
    gain = scores - anchor.detach().to(scores.dtype)  # (I, T)
    if lead == "relative":
        return hard_negative_triplet_loss(gain, mask, margin=anchor_margin, reduction=reduction)
    over = ((1 - positive_share) * anchor_margin + gain).clamp(min=0)  # of a negative
    hardest = masked_max(over, ~positives, 1)[:, None] + masked_max(over, ~positives, 0)
    lost = 2 * (positive_share * anchor_margin - gain).clamp(min=0) + hardest
    return reduced(lost.masked_fill(~positives, 0), positives, reduction)


class AnchoredMarginLoss(HardNegativeTripletLoss):
    """DBL: the triplet, and a lead over models that were trained before; see :func:`anchored_margin_loss`.

    For an ensemble whose members are trained one after the other. The first has no anchor, and trains by the triplet
    alone. Each other one has all those before it as anchors: the mean over them is added to the triplet. Training gets
    the scores of the anchors from ``MatchingTask(anchors=[...])``.

    Args:
        margin: of the triplet, in units of the score.
        anchor_margin: wanted lead over an anchor, in units of the score.
        lead: of scores ("absolute") or of differences between positives and negatives ("relative").
        positive_share: part of the absolute lead that positives owe; negatives owe the rest.
        weight: of the mean over the anchors.
        negatives: of the triplet, as in :class:`HardNegativeTripletLoss`; against an anchor the hardest one counts.
        reduction: sum over the positive pairs, their mean, or one number per pair.
        warmup_epochs: number of epochs at the beginning in which the triplet has all negatives.

    Source:
        Diao et al., IEEE Transactions on Image Processing 33, 2024 (DBL).

    Deviation:
        The authors train all branches beside each other, each with the present scores of those before it as anchors;
        here those are finished.

    Example:
        >>> import torch
        >>> loss = AnchoredMarginLoss()
        >>> loss(torch.eye(2)).item()
        0.0
        >>> loss(torch.eye(2), anchors=torch.eye(2)[None])
        tensor(0.8000)
    """

    uses = frozenset({"anchors"})

    def __init__(
        self,
        margin: float = 0.2,
        anchor_margin: float = 0.2,
        lead: Lead = "absolute",
        positive_share: float = 0.5,
        weight: float = 1.0,
        negatives: NegativesName | Negatives = "hardest",
        reduction: Reduction = "sum",
        warmup_epochs: int = 0,
    ) -> None:
        super().__init__(margin, negatives, reduction, warmup_epochs)
        self.anchor_margin = check_not_negative("anchor_margin", anchor_margin)
        self.lead: Lead = check_choice("lead", lead, "absolute", "relative")
        self.positive_share = check_share("positive_share", positive_share)
        self.weight = check_not_negative("weight", weight)

    def of(self, matches: Matches) -> Tensor:
        """Loss of the scores of a batch, with those of the anchors."""
        loss: Tensor = self(matches.get("scores", self), matches.positives, matches.anchors)
        return loss

    def forward(self, scores: Tensor, positives: Tensor | None = None, anchors: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T), with those of anchors (A, I, T) where there are some."""
        loss = super().forward(scores, positives)
        if anchors is None or not len(anchors):
            return loss
        lost = [self.call(anchored_margin_loss, scores, positives, anchor=anchor) for anchor in anchors]
        return loss + self.weight * sum(lost[1:], start=lost[0]) / len(lost)

    def collapse_level(self, matches: Matches) -> Tensor | None:
        """The loss of a model that gives all pairs the same score; with an absolute lead it depends on that score."""
        return None if self.lead == "absolute" and matches.anchors is not None else super().collapse_level(matches)
