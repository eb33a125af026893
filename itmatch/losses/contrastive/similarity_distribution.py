"""Similarity distribution matching: the softmax of the scores shall be even over the positives and 0 elsewhere."""

from __future__ import annotations

from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_relevance, check_scores
from itmatch.ops.checks import check_above_zero
from itmatch.ops.masking import masked_mean


def similarity_distribution_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    *,
    temperature: float = 0.02,
    epsilon: float = 1e-8,
    matched: Tensor | None = None,
) -> Tensor:
    r"""Divergence of the softmax of each row and column from the even distribution over its positives.

    Formula:
        With :math:`p_i` the softmax of row :math:`i` of :math:`s / \tau` and
        :math:`q_{it} = 1 / |P(i)|` at the positives :math:`P(i)` of image :math:`i`, 0 elsewhere,

        .. math:: L_{i2t} = \frac{1}{|I^+|} \sum_{i \in I^+}
            \sum_t p_{it} \big(\log p_{it} - \log(q_{it} + \epsilon)\big)

        over the images :math:`I^+` that have a positive; :math:`L_{t2i}` is the same for the columns, and the result is
        their sum. A negative costs at most :math:`-\log \epsilon` times its share. Unlike cross-entropy, which has
        :math:`q` in front, the loss weighs what the model believes, and a positive that leaves the others of its anchor
        behind costs, too. Negatives are pushed down until their share is about :math:`\epsilon`, and not below.

        With ``matched``, how well caption :math:`t` fits image :math:`i`, :math:`q_{it}` is that, divided by the sum of
        its row; and by that of its column for :math:`L_{t2i}`. Other photos of a person may so count less than the one
        that a caption is of: 0.3 in the authors' code, whose training does not use it.

    Shape:
        - scores: (I, T), made for cosines
        - positives: (I, T) bool, or None for the diagonal
        - matched: (I, T) from 0 to 1, in place of positives
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Jiang and Ye, *Cross-Modal Implicit Relation Reasoning and Aligning for Text-to-Image Person Retrieval*, CVPR
        2023 (IRRA), eq. 7 and 8, with the values of its code.

    Deviation:
        The authors' code divides the columns, too, by the number of positives of the rows. The two are equal where
        rows and columns have the same identities, as in its batches; but not with soft labels, the sum of which over a
        row is not 1 there.

    Example:
        >>> import torch
        >>> similarity_distribution_loss(torch.zeros(2, 2), epsilon=1e-4)  # 2 (ln 1/2 - (ln 1e-4) / 2)
        tensor(7.8239)
    """
    _check_options(temperature, epsilon)
    if matched is not None:
        if positives is not None:
            raise ValueError("positives and matched: give one of them, matched says which pairs are positive")
        matched = check_relevance(matched, scores, name="matched")
        positives = matched > 0
    scores, positives = check_scores(scores, positives)
    logits = scores / temperature
    wanted = (positives if matched is None else matched).to(scores.dtype)
    return _from_rows(logits, wanted, epsilon) + _from_rows(logits.T, wanted.T, epsilon)


def divergences(logits: Tensor, wanted: Tensor, epsilon: float) -> Tensor:
    """(I,) divergence of the softmax of each row (I, T) from what is wanted of it, to which ``epsilon`` is added."""
    log_share = logits.log_softmax(1)
    return (log_share.exp() * (log_share - (wanted + epsilon).log())).sum(1)


def _from_rows(logits: Tensor, wanted: Tensor, epsilon: float) -> Tensor:
    total = wanted.sum(1, keepdim=True)
    lost = divergences(logits, wanted / total.masked_fill(total == 0, 1), epsilon)
    return masked_mean(lost, total[:, 0] > 0, 0)


def _check_options(temperature: float, epsilon: float) -> None:
    check_above_zero("temperature", temperature)
    check_above_zero("epsilon", epsilon)


class SimilarityDistributionLoss(ScoreLoss):
    """SDM, divergence from the even distribution over the positives; see :func:`similarity_distribution_loss`.

    Args:
        temperature: scores are divided by it.
        epsilon: added to what is wanted, so that its logarithm is finite at the negatives.

    Example:
        >>> import torch
        >>> abs(round(SimilarityDistributionLoss()(torch.eye(3)).item(), 6))
        0.0
    """

    level_free = True

    def __init__(self, temperature: float = 0.02, epsilon: float = 1e-8) -> None:
        super().__init__()
        _check_options(temperature, epsilon)
        self.temperature = temperature
        self.epsilon = epsilon

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T)."""
        return self.call(similarity_distribution_loss, scores, positives, matched=None)
