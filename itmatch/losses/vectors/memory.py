"""Triplet with the hardest negatives of the batch and of a queue of earlier batches."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.losses.base import EmbeddingLoss
from itmatch.losses.checks import check_vectors
from itmatch.losses.reductions import Reduction, check_reduction
from itmatch.losses.vectors._products import inner_products
from itmatch.ops.checks import check_not_negative, check_whole
from itmatch.ops.masking import l2_normalize, masked_max


def off_batch_hardest_loss(
    image: Tensor,
    text: Tensor,
    groups: Tensor,
    queue_image: Tensor,
    queue_text: Tensor,
    queue_groups: Tensor,
    *,
    margin: float = 0.2,
    queue_margin: float = 0.0,
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge with the hardest negative of the batch, and another with the hardest one of a queue.

    Formula:
        With :math:`s` the cosine, :math:`s_n = s(v_n, t_n)` of pair :math:`n`, :math:`B_n` the pairs of the batch and
        :math:`Q_n` those of the queue that are of other images,

        .. math:: \sum_n \max_{k \in B_n} [m + s(v_n, t_k) - s_n]_+ + \max_{k \in B_n} [m + s(v_k, t_n) - s_n]_+
            + \max_{k \in Q_n} [m_q + s(v_n, t_k) - s_n]_+ + \max_{k \in Q_n} [m_q + s(v_k, t_n) - s_n]_+

        A maximum over nothing is 0. ``reduction="mean"`` divides by the number of pairs. The queue is constant: the
        gradient reaches the pairs of the batch alone.

    Shape:
        - image, text: (N, D), the two sides of each pair; any length but 0
        - groups: (N,) int64, the same number = the same image, in the batch and in the queue
        - queue_image, queue_text: (Q, D), Q may be 0
        - queue_groups: (Q,) int64
        - result: scalar, float32 (float64 for float64 vectors)

    Source:
        Chen, Deng and Luo, *Adaptive Offline Quintuplet Loss for Image-Text Matching*, ECCV 2020: negatives from
        beyond the batch, in a hinge of their own with margin 0. The queue is that of Wang et al., *Cross-Batch Memory
        for Embedding Learning*, CVPR 2020.

    Deviation:
        The paper mines its negatives from the whole training set with a finished model, encodes them anew, weighs the
        hinge of the batch by how much harder they are, and has a third hinge against pairs of two such negatives. Here
        they are what the last batches left behind, a step or more old, with neither weight nor third hinge.

    Example:
        >>> image = text = torch.eye(2)
        >>> past = torch.tensor([[2.0, 0.0]])  # a caption as good as the own one, of another image
        >>> off_batch_hardest_loss(image, text, torch.arange(2), past, past, torch.tensor([7]), queue_margin=0.1)
        tensor(0.2000)
        >>> off_batch_hardest_loss(image, text, torch.arange(2), past, past, torch.tensor([0]), queue_margin=0.1)
        tensor(0.)
    """
    _check_options(margin, queue_margin, reduction)
    image, text, groups = check_vectors(image, text, groups)
    image, text = l2_normalize(image), l2_normalize(text)
    scores = inner_products(image, text)
    own = scores.diagonal()
    negative = groups[:, None] != groups
    loss = _hinge(scores, own, negative, margin) + _hinge(scores.T, own, negative, margin)
    if len(queue_groups):
        negative = groups[:, None] != queue_groups  # (N, Q)
        for vectors, past in ((image, queue_text), (text, queue_image)):
            past = l2_normalize(past.detach().to(vectors.dtype))
            loss = loss + _hinge(inner_products(vectors, past), own, negative, queue_margin)
    return loss if reduction == "sum" else loss / len(image)


def _hinge(scores: Tensor, own: Tensor, negative: Tensor, margin: float) -> Tensor:
    hardest = masked_max(scores, negative, 1)
    return (margin + hardest - own).clamp(min=0).masked_fill(~negative.any(1), 0).sum()


def _check_options(margin: float, queue_margin: float, reduction: str) -> None:
    check_not_negative("margin", margin)
    check_not_negative("queue_margin", queue_margin)
    check_reduction(reduction)


class OffBatchHardestLoss(EmbeddingLoss):
    """Triplet that also looks for the hardest negative among past batches; see :func:`off_batch_hardest_loss`.

    In training mode every call ends by putting its pairs into the queue, in place of the oldest. The queue is part of
    the state (2 x ``size`` x ``embed_dim`` numbers in a checkpoint), so a resumed run has the negatives of one that was
    not interrupted. With several processes all draw on the queue of the first.

    ``groups`` must be numbers that mean the same in every batch, the place of the image in the dataset: an image that
    is still in the queue when it comes again is no negative of its own captions. :class:`itmatch.training.MatchingTask`
    gives these.

    Args:
        embed_dim: D, the size of the vectors.
        size: number of pairs that the queue holds.
        margin: wanted lead of the own pair over the hardest negative of the batch, in units of the cosine.
        queue_margin: the same over the hardest of the queue, which among many are harder and may be right after all;
            0, the value of the paper, asks for no more than the first place.
        reduction: sum over the pairs, their mean, or one number each.

    Example:
        >>> loss = OffBatchHardestLoss(embed_dim=2, size=4)
        >>> loss(torch.eye(2), torch.eye(2), torch.tensor([5, 6])).item()
        0.0
        >>> loss(torch.eye(2), torch.eye(2).flip(0), torch.tensor([8, 9]))  # 2 pairs x 2 directions x (1.2 + 1)
        tensor(8.8000)
    """

    queue_image: Tensor
    queue_text: Tensor
    queue_groups: Tensor
    seen: Tensor

    def __init__(
        self,
        embed_dim: int,
        size: int = 4096,
        margin: float = 0.2,
        queue_margin: float = 0.0,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        _check_options(margin, queue_margin, reduction)
        check_whole("embed_dim", embed_dim)
        check_whole("size", size)
        self.embed_dim = embed_dim
        self.size = size
        self.margin = margin
        self.queue_margin = queue_margin
        self.reduction: Reduction = reduction
        self.register_buffer("queue_image", torch.zeros(size, embed_dim))
        self.register_buffer("queue_text", torch.zeros(size, embed_dim))
        self.register_buffer("queue_groups", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # pairs that ever came in

    def forward(self, image: Tensor, text: Tensor, groups: Tensor | None = None) -> Tensor:
        """Loss of paired vectors (N, D); in training mode they enter the queue."""
        if groups is None:
            raise ValueError("groups: None, expected the number of each pair's image, the same in every batch")
        if image.shape[-1] != self.embed_dim:
            raise ValueError(f"image: shape {tuple(image.shape)}, expected vectors of embed_dim={self.embed_dim}")
        filled = min(int(self.seen), self.size)  # the one place where a GPU waits
        queue = (part[:filled] for part in (self.queue_image, self.queue_text, self.queue_groups))
        loss = off_batch_hardest_loss(
            image,
            text,
            groups,
            *queue,
            margin=self.margin,
            queue_margin=self.queue_margin,
            reduction=self.reduction,
        )
        if self.training:  # the backward pass reads the normalised copies, not the queue, which may change now
            self._push(image.detach(), text.detach(), groups)
        return loss

    def _push(self, image: Tensor, text: Tensor, groups: Tensor) -> None:
        new = min(len(groups), self.size)  # of a batch larger than the queue, the last
        first = self.seen + len(groups) - new
        places = (first + torch.arange(new, device=self.seen.device)) % self.size
        for queue, values in ((self.queue_image, image), (self.queue_text, text), (self.queue_groups, groups)):
            queue[places] = values[-new:].to(queue.dtype)
        self.seen += len(groups)
