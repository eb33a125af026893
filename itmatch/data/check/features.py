"""Looking at all features of a split once: numbers that are none, zeros, lengths, norms, and images that come twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations

import numpy as np

from itmatch.data.check.report import CheckReport
from itmatch.data.sources.features import FeatureStore
from itmatch.formats.arrays import Array

_PRINT = 1024  # numbers of an image that tell it from others
_SCALES = 1e-3, 1e4  # between which the norms of usual features lie
_FAR = 20  # times the mean norm
_MANY = 0.01  # of the images that come twice


@dataclass
class SeenSplit:
    """What is compared between splits.

    Args:
        image_ids: None where the images have no names.
        feature_dim: None where the features could not be opened.
        prints: the first image of each kind of features, by their hash.
    """

    image_ids: Sequence[str] | None = None
    feature_dim: int | None = None
    prints: dict[bytes, int] = field(default_factory=dict)


@dataclass
class _Counts:
    """What was seen so far, image by image."""

    bad: list[tuple[int, int]] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    zeros: int = 0
    beyond: list[int] = field(default_factory=list)
    twice: list[tuple[int, int]] = field(default_factory=list)
    regions: list[int] = field(default_factory=list)
    norms: list[tuple[float, float]] = field(default_factory=list)  # mean and largest

    def add(self, image: int, rows: Array, count: int, prints: dict[bytes, int]) -> None:
        real = rows[:count]
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.sqrt(np.square(real, dtype=np.float64).sum(-1))  # (R,)
        self.bad += [(image, int(region)) for region in np.flatnonzero(~np.isfinite(norms))]
        self.beyond += [image] if count < len(rows) and bool(np.any(rows[count:])) else []
        self.regions.append(count)
        if not norms.any():
            self.empty.append(image)
            return
        self.zeros += int((norms == 0).sum())
        self.norms.append((float(norms[norms > 0].mean()), float(norms.max())))
        seen = prints.setdefault(fingerprint(real), image)
        self.twice += [(image, seen)] if seen != image else []


def fingerprint(rows: Array) -> bytes:
    """A hash of the first numbers of an image."""
    return blake2b(np.ascontiguousarray(rows).ravel()[:_PRINT].tobytes(), digest_size=16).digest()


def look_at_features(
    report: CheckReport, store: FeatureStore, where: str, lengths: Array | None = None, *, prefix: str = ""
) -> dict[bytes, int]:
    """Read every image once, and note what was seen.

    Args:
        report: takes the notes.
        store: the features.
        where: the file, for what is wrong.
        lengths: (N,) regions that an image really has; None = all.
        prefix: stands before what is found.

    Returns:
        The first image of each kind of features, by their hash.
    """
    counts, prints = _Counts(), dict[bytes, int]()
    for image in range(len(store)):
        try:
            rows = store[image]
        except (ValueError, OSError) as error:
            report.problems.append(str(error))
            continue
        counts.add(image, rows, len(rows) if lengths is None else int(lengths[image]), prints)
    if counts.bad:
        image, region = counts.bad[0]
        report.problems.append(f"{where}: image {image} region {region}: NaN or inf in the features{_more(counts.bad)}")
    elif counts.norms:
        _note_statistics(report, counts, prefix, where)
    _note_zeros(report, counts, where, padded=lengths is not None)
    if len(counts.twice) > _MANY * len(store):
        image, other = counts.twice[0]
        report.warnings.append(f"{where}: image {image} has the features of image {other}{_more(counts.twice)}")
    return prints


def _note_statistics(report: CheckReport, counts: _Counts, prefix: str, where: str) -> None:
    least, most = min(counts.regions), max(counts.regions)
    share = f"{least}" if least == most else f"{least} to {most}, {np.mean(counts.regions):.1f} in the mean,"
    mean, largest = float(np.mean([norm[0] for norm in counts.norms])), max(norm[1] for norm in counts.norms)
    report.found.append(
        f"{prefix}{share} regions per image, their norms {mean:.3g} in the mean and up to {largest:.3g}"
    )
    if not _SCALES[0] <= mean <= _SCALES[1]:
        report.warnings.append(f"{where}: norms of {mean:.3g} in the mean, usual are {_SCALES[0]:g} to {_SCALES[1]:g}")
    if largest > _FAR * mean:
        report.warnings.append(
            f"{where}: a norm of {largest:.3g}, where the mean is {mean:.3g}; is a part of another scale?"
        )


def _note_zeros(report: CheckReport, counts: _Counts, where: str, *, padded: bool) -> None:
    if counts.empty:
        report.warnings.append(f"{where}: image {counts.empty[0]}: zeros alone in the features{_more(counts.empty)}")
    if counts.zeros:
        unless = "by the lengths too" if padded else "a lengths file says which are none"
        report.warnings.append(f"{where}: {counts.zeros} regions of zeros alone, taken for regions; {unless}")
    if counts.beyond:
        report.warnings.append(
            f"{where}: image {counts.beyond[0]}: numbers beyond its length{_more(counts.beyond)}; are the lengths of "
            "other features?"
        )


def compare_splits(report: CheckReport, seen: Mapping[str, SeenSplit]) -> None:
    """Note what is odd between splits: other feature sizes, and images that are in two of them."""
    sizes = {split: one.feature_dim for split, one in seen.items() if one.feature_dim is not None}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{split} {size}" for split, size in sizes.items())
        report.problems.append(f"{report.path}: features of different sizes: {shown}")
    for (first, one), (second, other) in combinations(seen.items(), 2):
        if {first, second} == {"test", "testall"}:  # COCO: test is a part of testall
            continue
        common = sorted(set(one.image_ids or ()) & set(other.image_ids or ()))
        equal = [one.prints[key] for key in one.prints if key in other.prints]
        if common:
            report.warnings.append(
                f"{report.path}: {first} and {second} share {len(common)} image ids, the first is {common[0]!r}"
            )
        elif equal:
            report.warnings.append(
                f"{report.path}: {len(equal)} images of {first} have the features of images of {second}, the first is "
                f"image {equal[0]}"
            )


def _more(places: Sequence[object]) -> str:
    return f" ({len(places)} such in all)" if len(places) > 1 else ""
