"""Whether one run is better than another on the same test set: a paired bootstrap over its images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
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
    return pairwise_bootstrap([[first], [second]], caption_image, samples=samples, seed=seed)[0].result


class PairResult(NamedTuple):
    """Two of several systems.

    Args:
        first: position of one.
        second: of the other, a later one.
        result: the first less the second.
    """

    first: int
    second: int
    result: BootstrapResult


def pairwise_bootstrap(
    systems: Sequence[Sequence[RetrievalRanks]],
    caption_image: ArrayLike,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> list[PairResult]:
    """:func:`paired_bootstrap` of every two of several systems, all on the same samples.

    A system may have several runs, with other seeds, say: its rSum is then the mean of theirs.

    Args:
        systems: the ranks of the runs of each system, one or more.
        caption_image: (T,) int64, the image of each caption.
        samples: number of samples.
        seed: of the samples.

    Raises:
        ValueError: as in :func:`paired_bootstrap`.

    Example:
        >>> good = RetrievalRanks(torch.zeros(20, dtype=torch.int64), torch.zeros(20, dtype=torch.int64))
        >>> bad = RetrievalRanks(torch.full((20,), 50), torch.full((20,), 50))
        >>> found = pairwise_bootstrap([[good, bad], [bad], [good]], torch.arange(20), samples=99)
        >>> [(pair.first, pair.second, pair.result.difference) for pair in found]
        [(0, 1, 300.0), (0, 2, -300.0), (1, 2, -600.0)]
    """
    if check_whole("samples", samples) > _MOST_SAMPLES:
        raise ValueError(f"samples: {samples}, expected 1 to {_MOST_SAMPLES}")
    hits, queries = _checked_hits(systems, as_tensor("caption_image", caption_image).cpu().long())
    found = _resampled(torch.cat([*hits, queries], 1), samples, seed)
    counts, runs = found[:, -2:], [len(system) for system in systems]
    every = [found[:, 6 * i : 6 * i + 6] for i in range(len(systems))]
    # whole numbers up to the last division, so that what is equal differs by 0
    return [
        PairResult(i, j, _result(every[i] * runs[j] - every[j] * runs[i], counts * (runs[i] * runs[j])))
        for i, j in combinations(range(len(systems)), 2)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several comparisons, raised so that they may be read together (Holm's method).

    With all those below 0.05 called differences, the chance that even one of them is none is 5 % at most.

    Source:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979.

    Example:
        >>> holm([0.04, 0.01, 0.03])
        [0.06, 0.03, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _checked_hits(systems: Sequence[Sequence[RetrievalRanks]], image: Tensor) -> tuple[list[Tensor], Tensor]:
    """(I, 6) for each system, the sum over its runs, and (I, 2), of the images that are queries."""
    names = ("first", "second") if [len(system) for system in systems] == [1, 1] else None
    numbered = [(names[i] if names else f"systems[{i}]", ranks) for i, runs in enumerate(systems) for ranks in runs]
    placed = [_on_cpu(name, ranks) for name, ranks in numbered]
    sizes = [(len(ranks.image_to_text), len(ranks.text_to_image)) for ranks in placed]
    other = next((size for size in sizes if size != sizes[0]), sizes[0])
    if other != sizes[0] or len(image) != sizes[0][1] or not len(image):
        raise ValueError(f"ranks of {sizes[0]} and {other} images and captions, and {len(image)} captions")
    queries = _queries(placed[0], image)  # (I, 2)
    drawn = queries[:, 1] > 0
    for ranks in placed:
        if not torch.equal(ranks.image_to_text >= 0, drawn):
            raise ValueError("the images with a rank are not those with captions; are the ranks of these captions?")
    of_runs = iter([_hits(ranks, image)[drawn] for ranks in placed])
    return [torch.stack([next(of_runs) for _ in runs]).sum(0) for runs in systems], queries[drawn]


def _resampled(counted: Tensor, samples: int, seed: int) -> Tensor:
    """(1 + S, C) sums over the images (I, C): of the set as it is, then of every sample."""
    generator = torch.Generator().manual_seed(seed)
    found = [counted.sum(0, keepdim=True)]
    step = max(1, _WEIGHTS // len(counted))
    for start in range(0, samples, step):
        count = min(step, samples - start)
        chosen = torch.randint(len(counted), (count, len(counted)), generator=generator)
        weights = torch.zeros(count, len(counted), dtype=torch.float64)
        weights.scatter_add_(1, chosen, torch.ones_like(weights))
        found.append(weights @ counted)
    return torch.cat(found)


def _result(gains: Tensor, counts: Tensor) -> BootstrapResult:
    """What samples (1 + S, 6) of the difference in hits say, with (1 + S, 2) numbers of images and captions."""
    rsum = 100 * (gains[:, :3].sum(1) / counts[:, 0] + gains[:, 3:].sum(1) / counts[:, 1])
    whole, differences = rsum[0], rsum[1:].sort().values
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    low, high = differences.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return BootstrapResult(float(whole), low, high, min(1.0, 2 * (1 + rarer) / (len(differences) + 1)))


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
