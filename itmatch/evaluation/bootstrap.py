"""Whether one run is better than another on the same test set: a paired bootstrap over its images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from itmatch.evaluation.ranks import RetrievalRanks
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.ops.checks import check_whole

_KS = (1, 5, 10)
_MOST_SAMPLES = 10_000_000
_WEIGHTS = 1 << 23  # of images in samples that are held at a time


class BootstrapResult(NamedTuple):
    """Difference in rSum of two runs, the first less the second.

    Args:
        difference: on the test set as it is.
        low: lower end of the 95 % interval over the samples.
        high: upper end.
        p_value: two-sided: twice (1 + k) / (B + 1), at most 1, where k of the B samples have a difference that is 0 or
            below, or 0 or above, whichever are fewer. It is never 0: B samples cannot show less than 2 / (B + 1).
    """

    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    first: RetrievalRanks, second: RetrievalRanks, caption_image: ArrayLike, *, samples: int = 10_000, seed: int = 0
) -> BootstrapResult:
    """Resample the images of a test set, each with its captions, and compare the rSum of two runs on every sample.

    The candidates stay those of the whole set; images without captions are no queries, and none of the samples. It
    tells how much of a difference is owed to the choice of these test images, and nothing about how much training with
    another seed would change.

    Args:
        first: ranks of one run, tensors or numpy arrays.
        second: ranks of the other, on the same images and captions.
        caption_image: (T,) int64, the image of each caption.
        samples: number of samples.
        seed: of the samples.

    Raises:
        ValueError: the two runs have ranks of different numbers of images or captions, or other images without
            captions; a caption has an image that is none of them; no caption; no sample, or more than ten million.

    Example:
        >>> good = RetrievalRanks(torch.zeros(20, dtype=torch.int64), torch.zeros(20, dtype=torch.int64))
        >>> bad = RetrievalRanks(torch.full((20,), 50), torch.full((20,), 50))
        >>> paired_bootstrap(good, bad, torch.arange(20), samples=99)
        BootstrapResult(difference=600.0, low=600.0, high=600.0, p_value=0.02)
    """
    if check_whole("samples", samples) > _MOST_SAMPLES:
        raise ValueError(f"samples: {samples}, expected 1 to {_MOST_SAMPLES}")
    image = as_tensor("caption_image", caption_image).cpu().long()
    first, second = (_on_cpu(name, ranks) for name, ranks in (("first", first), ("second", second)))
    sizes = [(len(ranks.image_to_text), len(ranks.text_to_image)) for ranks in (first, second)]
    if sizes[0] != sizes[1] or len(image) != sizes[0][1] or not len(image):
        raise ValueError(f"ranks of {sizes[0]} and {sizes[1]} images and captions, and {len(image)} captions")
    queries = _queries(first, image)  # (I, 2)
    drawn = queries[:, 1] > 0
    for ranks in (first, second):
        if not torch.equal(ranks.image_to_text >= 0, drawn):
            raise ValueError("the images with a rank are not those with captions; are the ranks of these captions?")
    gains = (_hits(first, image) - _hits(second, image))[drawn]  # (I, 6)
    queries = queries[drawn]
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
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    low, high = differences.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return BootstrapResult(float(whole), low, high, min(1.0, 2 * (1 + rarer) / (samples + 1)))


def _on_cpu(name: str, ranks: RetrievalRanks) -> RetrievalRanks:
    of_images, of_captions = (as_tensor(f"{name}.{field}", getattr(ranks, field)).cpu() for field in ranks._fields)
    if len(of_captions) and int(of_captions.min()) < 0:
        raise ValueError(f"{name}.text_to_image: {int(of_captions.min())}, expected ranks from 0 on")
    return RetrievalRanks(of_images, of_captions)


def _queries(ranks: RetrievalRanks, image: Tensor) -> Tensor:
    """(I, 2): whether an image is a query, and its number of captions."""
    is_query = ranks.image_to_text >= 0
    low, high = (int(value) for value in image.aminmax())
    if low < 0 or high >= len(is_query):
        raise ValueError(f"caption_image: {low}..{high}, expected 0..{len(is_query) - 1}")
    return torch.stack((is_query, torch.bincount(image, minlength=len(is_query))), 1).double()


def _hits(ranks: RetrievalRanks, image: Tensor) -> Tensor:
    """(I, 6): for each K, whether the image found a caption, and how many of its captions found it."""
    of_image, of_caption = ranks
    columns = [((of_image >= 0) & (of_image < k)).double() for k in _KS]
    for k in _KS:
        columns.append(torch.zeros(len(of_image), dtype=torch.float64).index_add_(0, image, (of_caption < k).double()))
    return torch.stack(columns, 1)


def _rsum(weights: Tensor, gains: Tensor, queries: Tensor) -> Tensor:
    """(S,) differences in rSum of samples in which image i counts ``weights[s, i]`` times."""
    totals, counts = weights @ gains, weights @ queries
    return 100 * (totals[:, :3].sum(1) / counts[:, 0] + totals[:, 3:].sum(1) / counts[:, 1])
