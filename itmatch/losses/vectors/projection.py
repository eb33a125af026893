"""Cross-modal projection matching: the softmax of projections shall be even over the positives."""

from __future__ import annotations

from torch import Tensor

from itmatch.losses.base import EmbeddingLoss
from itmatch.losses.checks import check_vectors
from itmatch.losses.contrastive.similarity_distribution import divergences
from itmatch.ops.checks import check_above_zero
from itmatch.ops.distances import inner_products
from itmatch.ops.masking import l2_normalize


def cross_modal_projection_loss(
    image: Tensor,
    text: Tensor,
    groups: Tensor | None = None,
    *,
    epsilon: float = 1e-8,
    divided_by_length: bool = False,
) -> Tensor:
    r"""Divergence of the softmax of each vector's projections from the even distribution over its positives.

    Formula:
        With :math:`p_i` the softmax of the projections :math:`v_i \cdot t_j / |t_j|` of image :math:`i` on the captions
        of all pairs :math:`j`, and :math:`q_{ij} = 1 / n_i` at the :math:`n_i` pairs of the same group, 0 elsewhere,

        .. math:: L_{i2t} = \frac{1}{N} \sum_i \sum_j p_{ij} \big(\log p_{ij} - \log(q_{ij} + \epsilon)\big)

        :math:`L_{t2i}` has :math:`t_i \cdot v_j / |v_j|`, and the result is their sum. The lengths of the vectors stand
        for a temperature: with vectors of length 1 the softmax is nearly even, so encoders should not divide by the
        length. ``divided_by_length=True`` has :math:`q_{ij} = 1 / \sqrt{n_i}`.

    Shape:
        - image, text: (N, D), the two sides of each pair; of any length
        - groups: (N,) int64, or None when all pairs are of different images
        - result: scalar, float32 (float64 for float64 vectors)

    Source:
        Zhang and Lu, *Deep Cross-Modal Projection Learning for Image-Text Matching*, ECCV 2018 (CMPM), eq. 1 to 5.

    Deviation:
        The public code of CMPM for person search, which IRRA (CVPR 2023) has too, divides the row of positives by its
        length in place of its sum, so that several positives want more than there is: ``divided_by_length=True``.

    Example:
        >>> import torch
        >>> vectors = 20 * torch.eye(3)
        >>> abs(round(cross_modal_projection_loss(vectors, vectors).item(), 4))
        0.0
        >>> round(cross_modal_projection_loss(vectors, vectors.roll(1, 0)).item(), 4)  # 2 x -ln 1e-8
        36.8414
    """
    check_above_zero("epsilon", epsilon)
    image, text, groups = check_vectors(image, text, groups)
    same = (groups[:, None] == groups).to(image.dtype)  # (N, N), symmetric
    count = same.sum(1, keepdim=True)
    wanted = same / (count.sqrt() if divided_by_length else count)
    rows = divergences(inner_products(image, l2_normalize(text)), wanted, epsilon)  # (N,)
    return rows.mean() + divergences(inner_products(text, l2_normalize(image)), wanted, epsilon).mean()


class CrossModalProjectionLoss(EmbeddingLoss):
    """CMPM, matching by projections; see :func:`cross_modal_projection_loss`.

    Args:
        epsilon: added to what is wanted, so that its logarithm is finite at the negatives.
        divided_by_length: divide the row of positives by its length, as the public code does, in place of its sum.

    Example:
        >>> import torch
        >>> loss = CrossModalProjectionLoss(epsilon=1e-4)
        >>> abs(round(loss(20 * torch.eye(2), 20 * torch.eye(2)).item(), 3))
        0.0
    """

    def __init__(self, epsilon: float = 1e-8, *, divided_by_length: bool = False) -> None:
        super().__init__()
        self.epsilon = check_above_zero("epsilon", epsilon)
        self.divided_by_length = divided_by_length

    def forward(self, image: Tensor, text: Tensor, groups: Tensor | None = None) -> Tensor:
        """Loss of paired vectors (N, D)."""
        return self.call(cross_modal_projection_loss, image, text, groups)
