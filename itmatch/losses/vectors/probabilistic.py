"""Matching of distributions: every image and every caption is a Gaussian instead of a point."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from itmatch.losses.base import EmbeddingLoss
from itmatch.losses.checks import check_relevance, check_vectors
from itmatch.ops.checks import check_above_zero, check_choice, check_finite, check_not_negative
from itmatch.ops.distances import Distance, sampled_distances
from itmatch.ops.masking import l2_normalize


def probabilistic_matching_loss(
    image: Tensor,
    text: Tensor,
    groups: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.2,
    bias: float | Tensor = 5.0,
    pseudo_positives: float = 0.1,
    prior: float = 1e-4,
    normalize: bool = True,
    distance: Distance = "sampled",
    matched: Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy of the probability that an image and a caption match, for all pairs.

    Formula:
        With :math:`d` of :func:`sampled_distances`, :math:`p_{nk} = \mathrm{sigmoid}(-d(v_n, t_k) / \tau + b)`, and
        :math:`y_{nk} = 1` where pairs :math:`n` and :math:`k` are of the same image,

        .. math:: L = \mathrm{BCE}(p, y) + \frac{\alpha}{2} \big( \mathrm{BCE}(p, y^{i2t}) + \mathrm{BCE}(p, y^{t2i})
            \big) + \frac{\beta}{2} \big( \mathrm{KL}_v + \mathrm{KL}_t \big)

        where BCE is the mean over all :math:`N^2` pairs. Pseudo-positives (:math:`\alpha`): in :math:`y^{i2t}` a
        caption at least as near to image :math:`n` as its own, :math:`t_n`, is right too, and in :math:`y^{t2i}` an
        image at least as near to a caption as its own; they are found anew each time and have no gradient. Prior
        (:math:`\beta`): :math:`\mathrm{KL} = \frac12 \mathrm{mean}(\mu^2 + \sigma^2 - \log \sigma^2 - 1)`, the
        distance to the standard normal distribution, which keeps the variances from vanishing.

        With ``matched``, :math:`y` is how well caption :math:`k` fits image :math:`n`, from 0 to 1; what is as near as
        the best of its row, or column, in :math:`y` gets the value of that.

    Shape:
        - image, text: (N, 2 D), the two sides of each pair: mean, then logarithm of the variance
        - groups: (N,) int64, or None when all pairs are of different images
        - matched: (N, N) from 0 to 1, in place of groups
        - result: scalar, float32 (float64 for float64 vectors)

    Source:
        Chun, *Improved Probabilistic Image-Text Representations* (PCME++), ICLR 2024, and its public code, with which
        values and gradients agree to 1e-5, but for the factor 2.

    Deviation:
        The public code adds the two directions instead of averaging them, so its values are twice these. Where an image
        has several captions, its pseudo-positives of a pair are as near as the first of them in the batch; here, as
        near as the caption of the pair. Its mixed samples (Mixup, CutMix) are left out: they are of the data, and make
        such a ``matched``.

    Example:
        >>> mean, log_variance = torch.eye(2), torch.full((2, 2), -9.0)
        >>> vectors = torch.cat((mean, log_variance), dim=1)
        >>> right = probabilistic_matching_loss(vectors, vectors)
        >>> wrong = probabilistic_matching_loss(vectors, vectors.flip(0))
        >>> bool(right < 0.02), bool(wrong > 4)
        (True, True)
    """
    _check_options(pseudo_positives, prior)
    if not isinstance(temperature, Tensor):
        check_above_zero("temperature", temperature)
    if not isinstance(bias, Tensor):
        check_finite("bias", bias)
    image, text, groups = check_vectors(image, text, groups)
    distances = sampled_distances(image, text, normalize=normalize, distance=distance)
    logits = bias - distances / temperature  # (N, N)
    soft = (groups[:, None] == groups).to(logits.dtype) if matched is None else check_relevance(matched, logits)
    loss = _cross_entropy(logits, soft)
    if pseudo_positives:
        own = None if matched is not None else torch.arange(len(soft), device=soft.device)
        captions = _cross_entropy(logits, _with_pseudo_positives(logits.detach(), soft, own))
        images = _cross_entropy(logits.T, _with_pseudo_positives(logits.detach().T, soft.T, own))
        loss = loss + pseudo_positives * (captions + images) / 2
    if prior:
        loss = loss + prior * (_divergence(image, normalize=normalize) + _divergence(text, normalize=normalize)) / 2
    return loss


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, target)


def _with_pseudo_positives(logits: Tensor, target: Tensor, own: Tensor | None) -> Tensor:
    """Targets (N, K) in which all that is as near as a row's own column, by default its best, gets its value."""
    place = (target.argmax(1) if own is None else own)[:, None]
    return torch.where(logits >= logits.gather(1, place), target.gather(1, place), target)


def _divergence(vectors: Tensor, *, normalize: bool) -> Tensor:
    mean, log_variance = vectors.chunk(2, dim=1)
    mean = l2_normalize(mean) if normalize else mean
    return (mean.square() + log_variance.exp() - log_variance - 1).mean() / 2


def _check_options(pseudo_positives: float, prior: float) -> None:
    check_not_negative("pseudo_positives", pseudo_positives)
    check_not_negative("prior", prior)


class ProbabilisticMatchingLoss(EmbeddingLoss):
    r"""The objective of PCME++ on vectors of means and variances; see :func:`probabilistic_matching_loss`.

    The vectors hold two halves: the mean, and the logarithm of the variance, which no normalisation may touch. An
    encoder with ``normalize=False`` and :class:`itmatch.nn.GaussianPooling` makes such ``Fragments.pooled``, and
    :class:`itmatch.nn.GaussianSimilarity` ranks by their :func:`sampled_distances`.

    Args:
        temperature: starting value of :math:`\tau`, learned as ``log_scale`` = ln(1 / temperature), so that it stays
            above 0.
        bias: starting value of :math:`b`, learned.
        pseudo_positives: weight of the cross-entropy with pseudo-positives; 0 leaves them out.
        prior: weight of the distance to the prior; 0 leaves it out.
        normalize: divide the means by their length first.
        distance: that of the paper, or that of its ablation; see :func:`sampled_distances`.

    Example:
        >>> loss = ProbabilisticMatchingLoss(pseudo_positives=0.0, prior=0.0)
        >>> vectors = torch.zeros(2, 8)
        >>> bool(loss(vectors, vectors) > 0)
        True
        >>> sorted(name for name, _ in loss.named_parameters())
        ['bias', 'log_scale']
    """

    def __init__(
        self,
        temperature: float = 0.2,
        bias: float = 5.0,
        pseudo_positives: float = 0.1,
        prior: float = 1e-4,
        *,
        normalize: bool = True,
        distance: Distance = "sampled",
    ) -> None:
        super().__init__()
        _check_options(pseudo_positives, prior)
        check_above_zero("temperature", temperature)
        check_finite("bias", bias)
        self.log_scale = nn.Parameter(torch.tensor([-math.log(temperature)]))
        self.bias = nn.Parameter(torch.tensor([float(bias)]))
        self.pseudo_positives = pseudo_positives
        self.prior = prior
        self.normalize = normalize
        self.distance: Distance = check_choice("distance", distance, "sampled", "wasserstein")

    def forward(self, image: Tensor, text: Tensor, groups: Tensor | None = None) -> Tensor:
        """Loss of paired vectors (N, 2 D)."""
        temperature = (-self.log_scale).exp()
        return self.call(probabilistic_matching_loss, image, text, groups, temperature=temperature, matched=None)
