"""Whether a model orders pairs of images and captions as people do: Kendall's tau of its scores and their ratings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from itmatch.errors import NonFiniteError
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.ops.checks import check_whole

_Ints = npt.NDArray[np.int64]


class KendallTau(NamedTuple):
    """Kendall's two measures for numbers with ties, from -1 to 1.

    Args:
        tau_b: leaves out what is tied on either side.
        tau_c: for sides that have unequal numbers of levels, as scores and ratings from 1 to 4.
    """

    tau_b: float
    tau_c: float


def kendall_tau(first: ArrayLike, second: ArrayLike) -> KendallTau:
    r"""How far two lists of numbers have one order; exact with ties, in time n log n.

    Shape:
        - first: (N,), second: (N,)

    Formula:
        With :math:`P` pairs in the same order, :math:`Q` in opposite orders, :math:`X` and :math:`Y` pairs that are
        not tied on the one and on the other side, and :math:`m` the smaller number of different values of a side

        .. math:: \tau_b = \frac{P - Q}{\sqrt{X Y}}, \qquad \tau_c = \frac{2 m (P - Q)}{n^2 (m - 1)}

    Source:
        Knight, *A Computer Method for Calculating Kendall's Tau with Ungrouped Data*, JASA 1966; tau-c: Stuart,
        *The Estimation and Comparison of Strengths of Association in Contingency Tables*, Biometrika 1953.

    Raises:
        ValueError: the lists are of unequal length; or all numbers of one are the same, so that they have no order.
        NonFiniteError: a number is NaN or infinite.

    Example:
        >>> kendall_tau([0.1, 0.4, 0.3, 0.9], [1, 2, 2, 3])
        KendallTau(tau_b=0.912..., tau_c=0.937...)
    """
    one, other = _numbers("first", first), _numbers("second", second)
    if len(one) != len(other):
        raise ValueError(f"first and second: {len(one)} and {len(other)} numbers, expected as many of each")
    return _tau(_levels("first", one), _levels("second", other))


@dataclass(frozen=True)
class Agreement:
    """How far the scores of a model agree with the ratings of people; tau in percent.

    Args:
        tau_b: see :func:`kendall_tau`, times 100.
        tau_b_error: its standard error, of a bootstrap over images; None where there are too few images for one.
        tau_c: see :func:`kendall_tau`, times 100.
        tau_c_error: its standard error.
        ratings: number of ratings.
        pairs: number of pairs of an image and a caption.
        images: number of images.
        skipped: pairs left out, since their images are unknown.
    """

    tau_b: float
    tau_b_error: float | None
    tau_c: float
    tau_c_error: float | None
    ratings: int
    pairs: int
    images: int
    skipped: int = 0

    def __str__(self) -> str:
        """As a table of plain text."""
        rows = [("figure", "ratings", "pairs", "images", "percent")]
        counts = (str(self.ratings), str(self.pairs), str(self.images))
        for name in ("tau_b", "tau_c"):
            error = getattr(self, f"{name}_error")
            value = f"{getattr(self, name):.1f}" + ("" if error is None else f" ± {error:.1f}")
            rows.append((name, *counts, value))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )


def measure_agreement(
    scores: ArrayLike,
    ratings: ArrayLike,
    pair: ArrayLike,
    image: ArrayLike,
    *,
    samples: int = 200,
    seed: int = 0,
) -> Agreement:
    """Kendall's tau of scores and ratings of the same pairs, with a standard error.

    The error is the standard deviation over samples in which images are drawn again, each with all its ratings: what
    another choice of images would change. Samples in which all scores, or all ratings, are the same are left out.

    Args:
        scores: (P,) of each pair of an image and a caption.
        ratings: (N,) of people; the higher the better.
        pair: (N,) int, the pair that each rates.
        image: (P,) int, the image of each pair.
        samples: number of samples, two at least.
        seed: of the samples.

    Raises:
        ValueError: lists do not fit each other; no rating; all ratings, or all scores, are the same.
        NonFiniteError: a score or a rating is NaN or infinite.

    Example:
        >>> found = measure_agreement([0.1, 0.4, 0.3, 0.9], [1, 2, 2, 3], [0, 1, 2, 3], [0, 0, 1, 1])
        >>> print(f"{found.tau_b:.1f} {found.tau_c:.1f}, {found.ratings} ratings of {found.images} images")
        91.3 93.8, 4 ratings of 2 images
    """
    check_whole("samples", samples, 2)
    values, rated = _numbers("scores", scores), _numbers("ratings", ratings)
    places = _places("pair", pair, len(rated), len(values))
    owners = _places("image", image, len(values), None)
    if not len(rated):
        raise ValueError("ratings: none, expected one at least")
    given, wanted = _levels("scores", values[places]), _levels("ratings", rated)
    tau = _tau(given, wanted)
    names, own = np.unique(owners[places], return_inverse=True)
    errors = _errors(given, wanted, own.astype(np.int64), samples, seed) if len(names) > 1 else (None, None)
    return Agreement(
        100 * tau.tau_b,
        errors[0],
        100 * tau.tau_c,
        errors[1],
        ratings=len(rated),
        pairs=len(np.unique(places)),
        images=len(names),
    )


def _errors(
    given: _Ints, wanted: _Ints, image: _Ints, samples: int, seed: int
) -> tuple[float, float] | tuple[None, None]:
    random = np.random.default_rng(seed)
    order = np.argsort(image, kind="stable")
    counts = np.bincount(image)
    starts = np.cumsum(counts) - counts
    found = []
    for _ in range(samples):
        drawn = random.integers(len(counts), size=len(counts))
        sizes = counts[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen = order[np.repeat(starts[drawn], sizes) + within]
        if np.ptp(given[chosen]) and np.ptp(wanted[chosen]):
            found.append(_tau(given[chosen], wanted[chosen]))
    if len(found) < 2:
        return None, None
    spread = 100 * np.std(np.array(found), axis=0, ddof=1)
    return float(spread[0]), float(spread[1])


def _numbers(name: str, values: ArrayLike) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = as_tensor(name, values).detach().cpu().double().numpy()
    if array.ndim != 1:
        raise ValueError(f"{name}: shape {array.shape}, expected a list of numbers")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise NonFiniteError(f"{name}[{bad[0]}]: {array[bad[0]]}, expected a number that is finite")
    return array


def _places(name: str, values: ArrayLike, count: int, end: int | None) -> _Ints:
    array: _Ints = as_tensor(name, values).detach().cpu().long().numpy()
    if array.shape != (count,):
        raise ValueError(f"{name}: shape {array.shape}, expected ({count},)")
    if len(array) and (array.min() < 0 or (end is not None and array.max() >= end)):
        expected = "0 or more" if end is None else f"0..{end - 1}"
        raise ValueError(f"{name}: {array.min()}..{array.max()}, expected {expected}")
    return array


def _levels(name: str, values: npt.NDArray[np.float64]) -> _Ints:
    """(N,) the place of each number among the different ones, from 0."""
    different, levels = np.unique(values, return_inverse=True)
    if len(different) < 2:
        found = f"all are {different[0]}" if len(different) else "none"
        raise ValueError(f"{name}: {found}, expected two different numbers at least")
    return levels.astype(np.int64)


def _tau(one: _Ints, other: _Ints) -> KendallTau:
    """Of numbers from 0 on, not all the same."""
    if other.max() > one.max():
        one, other = other, one  # the fewer levels, the less time
    n = len(one)
    pairs = n * (n - 1) // 2
    width = int(other.max()) + 1
    joint = np.sort(one * width + other)  # in the order of one, ties in that of other: those are no inversions
    tied_one, tied_other = np.bincount(one), np.bincount(other)
    _, tied_both = np.unique(joint, return_counts=True)
    apart_one, apart_other = pairs - _within(tied_one), pairs - _within(tied_other)
    inversions = _inversions(joint % width)
    difference = pairs - _within(tied_one) - _within(tied_other) + _within(tied_both) - 2 * inversions
    levels = min(int((tied_one > 0).sum()), int((tied_other > 0).sum()))
    tau_b = difference / (math.sqrt(apart_one) * math.sqrt(apart_other))
    return KendallTau(tau_b, 2 * levels * difference / (n * n * (levels - 1)))


def _within(counts: _Ints) -> int:
    """Number of pairs in groups of these sizes."""
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: _Ints) -> int:
    """Pairs of which the earlier number is the greater.

    Two different numbers have a highest bit in which they differ. From the highest bit on, numbers with the same higher
    bits stand together, in their order: every 0 that follows a 1 there is an inversion. Each bit takes a time of n.
    """
    total, n = 0, len(values)
    start = np.zeros(n, np.int64)  # where the numbers with the same higher bits begin
    places = np.arange(n)
    for bit in reversed(range(int(values.max()).bit_length())):
        ones = (values >> bit) & 1
        before = np.concatenate([[0], np.cumsum(ones)])  # ones before each place, and in all
        in_group = before[:-1] - before[start]
        total += int(in_group[ones == 0].sum())
        ends = np.flatnonzero(np.append(start[1:] != start[:-1], True)) + 1
        end = np.repeat(ends, np.diff(np.concatenate([[0], ends])))
        zeros = (end - start) - (before[end] - before[start])  # in the group
        target = start + np.where(ones == 1, zeros + in_group, places - start - in_group)
        moved, begin = np.empty_like(values), np.empty_like(start)
        moved[target], begin[target] = values, np.where(ones == 1, start + zeros, start)
        values, start = moved, begin
    return total
