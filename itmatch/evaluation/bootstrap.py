"""Whether one run is better than another on the same test set: a paired bootstrap over its images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from itmatch.evaluation.ranks import RetrievalRanks

_KS = (1, 5, 10)
_WEIGHTS = 1 << 23  # of images in samples that are held at a time


class BootstrapResult(NamedTuple):
    """Difference in rSum of two runs, the first less the second.

    Args:
        difference: on the test set as it is.
        low: lower end of the 95 % interval over the samples.
        high: upper end.
        p_value: two-sided: twice the share of samples in which the difference has the other sign or is 0, at most 1.
    """

    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    first: RetrievalRanks, second: RetrievalRanks, caption_image: Tensor, *, samples: int = 10_000, seed: int = 0
) -> BootstrapResult:
    """Resample the images of a test set, each with its captions, and compare the rSum of two runs on every sample.

    The candidates stay those of the whole set. It tells how much of a difference is owed to the choice of these test
    images, and nothing about how much training with another seed would change.

    Args:
        first: ranks of one run.
        second: ranks of the other, on the same images and captions.
        caption_image: (T,) int64, the image of each caption.
        samples: number of samples.
        seed: of the samples.

    Raises:
        ValueError: the two runs have ranks of different numbers of images or captions.

    Example:
        >>> good = RetrievalRanks(torch.zeros(20, dtype=torch.int64), torch.zeros(20, dtype=torch.int64))
        >>> bad = RetrievalRanks(torch.full((20,), 50), torch.full((20,), 50))
        >>> paired_bootstrap(good, bad, torch.arange(20), samples=100)
        BootstrapResult(difference=600.0, low=600.0, high=600.0, p_value=0.0)
    """
    sizes = [(len(ranks.image_to_text), len(ranks.text_to_image)) for ranks in (first, second)]
    if sizes[0] != sizes[1] or len(caption_image) != sizes[0][1]:
        raise ValueError(f"ranks of {sizes[0]} and {sizes[1]} images and captions, and {len(caption_image)} captions")
    image = caption_image.cpu().long()
    gains = _hits(first, image) - _hits(second, image)  # (I, 6)
    queries = _queries(first, image)  # (I, 2)
    whole = _rsum(torch.ones(1, len(gains), dtype=torch.float64), gains, queries)
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    step = max(1, _WEIGHTS // len(gains))
    for start in range(0, samples, step):
        count = min(step, samples - start)
        chosen = torch.randint(len(gains), (count, len(gains)), generator=generator)
        weights = torch.zeros(count, len(gains), dtype=torch.float64)
        weights.scatter_add_(1, chosen, torch.ones_like(weights))
        found.append(_rsum(weights, gains, queries))
    differences = torch.cat(found).sort().values
    against = (differences <= 0) if float(whole) > 0 else (differences >= 0)
    low, high = differences.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return BootstrapResult(float(whole), low, high, min(1.0, 2 * float(against.double().mean())))


def _queries(ranks: RetrievalRanks, image: Tensor) -> Tensor:
    """(I, 2): whether an image is a query, and its number of captions."""
    is_query = ranks.image_to_text.cpu() >= 0
    return torch.stack((is_query, torch.bincount(image, minlength=len(is_query))), 1).double()


def _hits(ranks: RetrievalRanks, image: Tensor) -> Tensor:
    """(I, 6): for each K, whether the image found a caption, and how many of its captions found it."""
    of_image, of_caption = ranks.image_to_text.cpu(), ranks.text_to_image.cpu()
    columns = [((of_image >= 0) & (of_image < k)).double() for k in _KS]
    for k in _KS:
        columns.append(torch.zeros(len(of_image), dtype=torch.float64).index_add_(0, image, (of_caption < k).double()))
    return torch.stack(columns, 1)


def _rsum(weights: Tensor, gains: Tensor, queries: Tensor) -> Tensor:
    """(S,) differences in rSum of samples in which image i counts ``weights[s, i]`` times."""
    totals, counts = weights @ gains, weights @ queries
    return 100 * (totals[:, :3].sum(1) / counts[:, 0] + totals[:, 3:].sum(1) / counts[:, 1])
