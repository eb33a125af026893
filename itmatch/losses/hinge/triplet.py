"""Bidirectional hinge loss of each positive pair and its negatives, with a rule for which of them count."""

from __future__ import annotations

from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_scores
from itmatch.losses.hinge.negatives import Negatives, NegativesName, rule_of
from itmatch.losses.reductions import Reduction, check_reduction, reduced
from itmatch.ops.checks import check_not_negative, check_whole


def hard_negative_triplet_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    margin: float = 0.2,
    negatives: NegativesName | Negatives = "hardest",
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge between each positive pair and the negatives of its image and of its caption.

    Formula:
        Let :math:`P` be the positive pairs, :math:`N(i)` the captions that do not describe image :math:`i`, and
        :math:`N(t)` the images that caption :math:`t` does not describe. With ``reduction="sum"``

        .. math:: \sum_{(i,t) \in P} \max_{t' \in N(i)} [m + s_{it'} - s_{it}]_+
            + \max_{i' \in N(t)} [m + s_{i't} - s_{it}]_+

        Other rules stand in place of the two maxima. ``"all"``: their sums. ``"semi-hard"``: the maximum over the
        negatives with a lower score than the pair, or the minimum over all where none is lower. Rules with settings
        are objects: :class:`SelectiveNegatives`, :class:`DistanceWeightedNegatives`. ``reduction="mean"`` divides by
        :math:`|P|`, which is the batch size when nothing repeats; ``"none"`` gives one number per positive pair. Over
        no negatives the result is 0, so a batch of one pair has loss 0. Other captions of the same image are in
        neither :math:`N`.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - result: scalar, float32 (float64 for float64 scores); (P,) for ``reduction="none"``

    Source:
        Faghri et al., *VSE++: Improving Visual-Semantic Embeddings with Hard Negatives*, BMVC 2018; semi-hard: Schroff
        et al., *FaceNet: A Unified Embedding for Face Recognition and Clustering*, CVPR 2015.

    Example:
        >>> import torch
        >>> hard_negative_triplet_loss(torch.tensor([[0.9, 0.8], [0.1, 0.9]]), margin=0.2)
        tensor(0.2000)
    """
    check_not_negative("margin", margin)
    check_reduction(reduction)
    rule = rule_of(negatives)
    diagonal = positives is None
    scores, positives = check_scores(scores, positives)
    rows = rule.of_rows(scores, positives, margin, diagonal=diagonal)
    columns = rule.of_rows(scores.T, positives.T, margin, diagonal=diagonal)
    return reduced(rows + columns.T, positives, reduction)


class HardNegativeTripletLoss(ScoreLoss):
    """The family's objective: bidirectional hinge with the hardest negative; see :func:`hard_negative_triplet_loss`.

    From random weights the hardest negative alone can push all scores together; the loss then sits at
    ``2 * batch * margin`` (``reduction="sum"``). Epochs with all negatives before the others prevent it.

    Scores are scaled differently by different poolings, and the margin has to follow: 0.05 on the unscaled
    log-sum-exp of CHAN is 0.005 on the scaled one. The published settings of the family assume ``reduction="sum"``.

    Args:
        margin: wanted distance between the score of a positive and that of a negative, in units of the score.
        negatives: which negatives of each image and caption count: the hardest, all, the hardest of those below the
            positive (semi-hard), or a rule with settings of its own.
        reduction: sum over the positive pairs, their mean, or one number per pair.
        warmup_epochs: number of epochs at the beginning with all negatives; takes :meth:`set_epoch`.

    Example:
        >>> import torch
        >>> from itmatch.losses import Matches, SelectiveNegatives
        >>> loss = HardNegativeTripletLoss(margin=0.2, negatives=SelectiveNegatives(epsilon=0.01))
        >>> loss(torch.eye(3)).item()
        0.0
        >>> round(loss.collapse_value(Matches(torch.eye(3))), 4)
        1.2
    """

    level_free = True

    def __init__(
        self,
        margin: float = 0.2,
        negatives: NegativesName | Negatives = "hardest",
        reduction: Reduction = "sum",
        warmup_epochs: int = 0,
    ) -> None:
        super().__init__()
        rule_of(negatives)
        check_reduction(reduction)
        self.margin = check_not_negative("margin", margin)
        self.negatives: NegativesName | Negatives = negatives
        self.reduction: Reduction = reduction
        self.warmup_epochs = check_whole("warmup_epochs", warmup_epochs, 0)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins, counted from 0; before the first call it is epoch 0."""
        self.epoch = epoch

    @property
    def current_negatives(self) -> NegativesName | Negatives:
        """The negatives that count in this epoch."""
        return "all" if self.epoch < self.warmup_epochs else self.negatives

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return self.call(hard_negative_triplet_loss, scores, positives, negatives=self.current_negatives)
