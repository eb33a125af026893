"""A memory of earlier batches, around any loss: more negatives than a batch holds."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from itmatch.losses.base import Loss
from itmatch.losses.checks import check_vectors
from itmatch.losses.hinge.negatives import Negatives, NegativesName, rule_of
from itmatch.losses.matches import Matches
from itmatch.losses.reductions import Reduction, check_reduction
from itmatch.ops.checks import check_kind, check_not_negative, check_whole
from itmatch.ops.distances import inner_products
from itmatch.ops.masking import l2_normalize


def memory_hinge(
    image: Tensor,
    text: Tensor,
    groups: Tensor,
    past_image: Tensor,
    past_text: Tensor,
    past_groups: Tensor,
    *,
    margin: float = 0.0,
    negatives: NegativesName | Negatives = "hardest",
    reduction: Reduction = "sum",
) -> Tensor:
    r"""Hinge of the pairs of a batch with negatives among earlier pairs.

    Formula:
        With :math:`s` the cosine, :math:`s_n = s(v_n, t_n)` of pair :math:`n`, and :math:`Q_n` the earlier pairs that
        are of other images,

        .. math:: \sum_n \max_{k \in Q_n} [m + s(v_n, t_k) - s_n]_+ + \max_{k \in Q_n} [m + s(v_k, t_n) - s_n]_+

        or another rule in place of the maximum, as in :func:`hard_negative_triplet_loss`. Over nothing it is 0.
        ``reduction="mean"`` divides by the number of pairs, ``"none"`` gives one number per pair. The earlier pairs are
        constant: the gradient reaches the pairs of the batch alone.

    Shape:
        - image, text: (N, D), the two sides of each pair; any length but 0
        - groups: (N,) int64, the same number = the same image, now and before
        - past_image, past_text: (Q, D), Q may be 0
        - past_groups: (Q,) int64
        - result: scalar, float32 (float64 for float64 vectors); (N,) for ``reduction="none"``

    Example:
        >>> image = text = torch.eye(2)
        >>> past = torch.tensor([[2.0, 0.0]])  # a caption as good as the own one, of another image
        >>> memory_hinge(image, text, torch.arange(2), past, past, torch.tensor([7]), margin=0.1)
        tensor(0.2000)
        >>> memory_hinge(image, text, torch.arange(2), past, past, torch.tensor([0]), margin=0.1)
        tensor(0.)
    """
    check_not_negative("margin", margin)
    check_reduction(reduction)
    rule = rule_of(negatives)
    image, text, groups = check_vectors(image, text, groups)
    image, text = l2_normalize(image), l2_normalize(text)
    own = inner_products(image, text).diagonal()
    lost = torch.zeros_like(own)
    if len(past_groups):
        negative = groups[:, None] != past_groups  # (N, Q)
        for vectors, past in ((image, past_text), (text, past_image)):
            scores = inner_products(vectors, l2_normalize(past.detach().to(vectors.dtype)))
            lost = lost + rule.chosen((margin + scores - own[:, None]).clamp(min=0), scores, own, negative)
    if reduction == "none":
        return lost
    return lost.sum() if reduction == "sum" else lost.mean()


class MemoryLoss(Loss):
    """A loss of the cosines of a batch, and beside it a hinge with earlier batches; see :func:`memory_hinge`.

    In training mode every call ends by putting its pairs into the memory, in place of the oldest. The memory is part of
    the state (2 x ``size`` x ``embed_dim`` numbers in a checkpoint), so a resumed run has the negatives of one that was
    not interrupted. With several processes all draw on the memory of the first.

    All scores are cosines of one vector per image and one per caption. Beside a loss of other scores this one is a term
    of an :class:`Objective`. ``groups`` must be numbers that mean the same in every batch, the position of the image in
    the dataset: an image that is still in the memory when it comes again is no negative of its own captions.
    :class:`itmatch.training.MatchingTask` gives these.

    Args:
        loss: of the batch alone; a loss of scores is given the cosines.
        embed_dim: D, the size of the vectors.
        size: number of pairs that the memory holds.
        memory_margin: wanted lead of the own pair over a negative of the memory, in units of the cosine. Among many
            negatives are harder ones, which may be right after all; 0, the value of the paper, asks for no more than
            the first place.
        negatives: which of the memory count, as in :class:`HardNegativeTripletLoss`.
        reduction: of the hinge with the memory: sum over the pairs, or their mean.

    Source:
        Chen, Deng and Luo, *Adaptive Offline Quintuplet Loss for Image-Text Matching*, ECCV 2020: negatives from
        beyond the batch, in a hinge of their own with margin 0. The memory is that of Wang et al., *Cross-Batch Memory
        for Embedding Learning*, CVPR 2020.

    Deviation:
        The paper mines its negatives from the whole training set with a finished model, encodes them anew, weighs the
        hinge of the batch by how much harder they are, and has a third hinge against pairs of two such negatives. Here
        they are what the last batches left behind, a step or more old, with neither weight nor third hinge.

    Example:
        >>> from itmatch.losses import HardNegativeTripletLoss
        >>> loss = MemoryLoss(HardNegativeTripletLoss(margin=0.2), embed_dim=2, size=4)
        >>> right = Matches(image=torch.eye(2), text=torch.eye(2), groups=torch.tensor([5, 6]))
        >>> loss.of(right).item()
        0.0
        >>> wrong = Matches(image=torch.eye(2), text=torch.eye(2).flip(0), groups=torch.tensor([8, 9]))
        >>> loss.of(wrong)  # 2 pairs x 2 directions x (1.2 + 1)
        tensor(8.8000)
    """

    queue_image: Tensor
    queue_text: Tensor
    queue_groups: Tensor
    seen: Tensor

    def __init__(
        self,
        loss: Loss,
        embed_dim: int,
        size: int = 4096,
        memory_margin: float = 0.0,
        negatives: NegativesName | Negatives = "hardest",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        rule_of(negatives)
        check_reduction(reduction)
        self.loss: Loss = check_kind("loss", loss, Loss)
        self.embed_dim = check_whole("embed_dim", embed_dim)
        self.size = check_whole("size", size)
        self.memory_margin = check_not_negative("memory_margin", memory_margin)
        self.negatives: NegativesName | Negatives = negatives
        self.reduction: Reduction = reduction
        self.register_buffer("queue_image", torch.zeros(size, embed_dim))
        self.register_buffer("queue_text", torch.zeros(size, embed_dim))
        self.register_buffer("queue_groups", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # pairs that ever came in

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The vectors, which give the scores, and what else the loss of the batch needs."""
        return (self.loss.needs - {"scores", "positives"}) | {"image", "text", "groups"}

    @property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        """What the loss of the batch reads where there is some."""
        return self.loss.uses

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss of the batch which epoch begins."""
        self.loss.set_epoch(epoch)

    def of(self, matches: Matches) -> Tensor:
        """Loss of a batch; in training mode its pairs enter the memory."""
        image, text, groups = (matches.get(name, self) for name in ("image", "text", "groups"))
        if image.shape[-1] != self.embed_dim:
            raise ValueError(f"image: shape {tuple(image.shape)}, expected vectors of embed_dim={self.embed_dim}")
        filled = min(int(self.seen), self.size)  # the one place where a GPU waits
        past = (part[:filled] for part in (self.queue_image, self.queue_text, self.queue_groups))
        hinge = self.call(memory_hinge, image, text, groups, *past, margin=self.memory_margin)
        if self.training:  # the backward pass reads the normalised copies, not the memory, which may change now
            self._push(image.detach(), text.detach(), groups)
        return self.loss.of(_with_cosines(matches, image, text, groups)) + hinge

    def _push(self, image: Tensor, text: Tensor, groups: Tensor) -> None:
        new = min(len(groups), self.size)  # of a batch larger than the memory, the last
        first = self.seen + len(groups) - new
        places = (first + torch.arange(new, device=self.seen.device)) % self.size
        for queue, values in ((self.queue_image, image), (self.queue_text, text), (self.queue_groups, groups)):
            queue[places] = values[-new:].to(queue.dtype)
        self.seen += len(groups)


def _with_cosines(matches: Matches, image: Tensor, text: Tensor, groups: Tensor) -> Matches:
    """The batch with the cosines (U, N) of each different image with all captions as its scores."""
    image, text, groups = check_vectors(image, text, groups)
    first = (groups[:, None] == groups).int().argmax(0)  # (N,) the first pair with the same image
    kept = (first == torch.arange(len(first), device=first.device)).nonzero()[:, 0]  # (U,)
    relevance = matches.relevance
    if relevance is not None and matches.positives is not None:
        relevance = relevance[matches.positives.int().argmax(0)[kept]]
    return replace(
        matches,
        scores=inner_products(l2_normalize(image[kept]), l2_normalize(text)),
        positives=groups[kept][:, None] == groups,
        relevance=relevance,
    )
