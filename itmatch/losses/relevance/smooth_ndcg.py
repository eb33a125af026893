"""NDCG made smooth: ranks by sigmoids of the differences of scores."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.checks import check_relevance, check_scores, pairs_of
from itmatch.losses.relevance.base import RelevanceLoss
from itmatch.ops.checks import check_above_zero


def smooth_ndcg_loss(
    scores: Tensor, positives: Tensor | None = None, *, relevance: Tensor | None = None, temperature: float = 0.1
) -> Tensor:
    r"""One minus the smoothed NDCG of the captions of each image and of the images of each caption.

    Formula:
        With the gain :math:`g_{it} = 2^{r_{it}} - 1` of a relevance that is 1 for positives, the smoothed rank of
        caption :math:`t` for image :math:`i` is

        .. math:: \pi_{it} = 1 + \sum_{t': g_{it'} \ne g_{it}} \sigma\Big(\frac{s_{it'} - s_{it}}{\tau}\Big)
            + \#\{t' \text{ ahead of } t : g_{it'} = g_{it}\}

        where the last term counts as usual, equal scores in the order of the columns. Then

        .. math:: L(i) = 1 - \frac{\sum_t g_{it} / \log_2(1 + \pi_{it})}{\max_\rho \sum_t g_{it} / \log_2(1 + \rho_t)}

        over the permutations :math:`\rho`, and the result is half the mean over the images that have a gain, plus half
        that over the captions. An image whose captions are all equally relevant has :math:`L(i) = 0`.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - relevance: (I, T) floating, from 0 to 1, of the pairs that are no positives, or None for 0
        - result: scalar, float32 (float64 for float64 scores)

    Source:
        Qin et al., *A General Approximation Framework for Direct Optimization of Information Retrieval Measures*
        (ApproxNDCG), Information Retrieval 13, 2010; the sigmoid in place of the step also in Brown et al.,
        *Smooth-AP*, ECCV 2020 (which uses a temperature of 0.01 on cosines).

    Deviation:
        Items of equal gain are ranked among themselves without smoothing, so that captions of the same image do not
        push each other away and a perfect order has loss 0.

    Example:
        >>> smooth_ndcg_loss(torch.tensor([[1.0, 7.0], [0.0, 9.0]]))  # image 0 has rank 2 instead of 1
        tensor(0.0923)
    """
    check_above_zero("temperature", temperature)
    diagonal = positives is None and relevance is None
    scores, positives = check_scores(scores, positives)
    grades = torch.zeros_like(scores) if relevance is None else check_relevance(relevance, scores)
    gains = grades.masked_fill(positives, 1).exp2() - 1  # (I, T)
    image, caption = pairs_of(gains > 0, diagonal=diagonal)
    rows = _from_rows(scores, gains, image, caption, temperature)
    return (rows + _from_rows(scores.T, gains.T, caption, image, temperature)) / 2


def _from_rows(scores: Tensor, gains: Tensor, anchor: Tensor, item: Tensor, temperature: float) -> Tensor:
    gain = gains[anchor, item]  # (P,)
    rank = _smooth_rank(scores[anchor], gains[anchor] == gain[:, None], item, temperature)
    achieved = scores.new_zeros(len(scores)).index_add(0, anchor, gain / (1 + rank).log2())  # (I,)
    places = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
    best = (gains.sort(dim=1, descending=True).values / (2 + places).log2()).sum(1)  # (I,)
    graded = gains.amax(1) > gains.amin(1)
    loss = (1 - achieved / best.masked_fill(~graded, 1)).masked_fill(~graded, 0)
    return loss.sum() / (best > 0).sum().clamp(min=1)


def _smooth_rank(scores: Tensor, same: Tensor, item: Tensor, temperature: float) -> Tensor:
    """Rank of item (P,) in each row of scores (P, T), counting those that are the same without smoothing."""
    gap = scores - scores.gather(1, item[:, None])  # (P, T)
    before = torch.arange(scores.shape[1], device=scores.device) < item[:, None]
    ahead = (gap > 0) | ((gap == 0) & before)
    return 1 + (ahead & same).sum(1) + (gap / temperature).sigmoid().masked_fill(same, 0).sum(1)


class SmoothNDCGLoss(RelevanceLoss):
    """One minus a smoothed NDCG, in both directions; see :func:`smooth_ndcg_loss`.

    It is bounded by 1 and flat where the order is far wrong, so it suits a trained model better than a new one. With a
    dense ``relevance`` it needs memory of (pairs with a gain, I + T).

    Args:
        temperature: of the sigmoid, in units of the score; towards 0 the loss tends to 1 - NDCG.

    Example:
        >>> loss = SmoothNDCGLoss(temperature=0.05)
        >>> round(loss(torch.eye(3)).item(), 4)
        0.0
        >>> from itmatch.losses import Matches
        >>> round(loss.collapse_value(Matches(torch.eye(3))), 4)  # rank 2 of 3: 1 - 1 / log2(3)
        0.3691
    """

    needs = ScoreLoss.needs  # without a relevance the positives alone have a gain
    level_free = True

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_above_zero("temperature", temperature)
        self.temperature = temperature

    def forward(self, scores: Tensor, positives: Tensor | None = None, *, relevance: Tensor | None = None) -> Tensor:
        """Loss of scores (I, T), with the relevance of the pairs (I, T) or that of the positives alone."""
        return self.call(smooth_ndcg_loss, scores, positives, relevance=relevance)
