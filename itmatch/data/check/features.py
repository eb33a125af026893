"""Looking at all features of a split once: numbers that are none, zeros, lengths, norms, and images that come twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import combinations

import numpy as np

from itmatch.data.check.report import CheckReport
from itmatch.data.sources.features import FeatureStore
from itmatch.formats.arrays import Array
from itmatch.formats.messages import counted

_PRINT = 1024  # numbers of an image that tell it from others
_SCALES = 1e-3, 1e4  # between which the norms of usual features lie
_FAR = 20  # times the usual norm
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


def fingerprint(rows: Array) -> bytes:
    """A hash of the first numbers of an image."""
    return blake2b(np.ascontiguousarray(rows).ravel()[:_PRINT].tobytes(), digest_size=16).digest()


def look_at_features(
    report: CheckReport,
    store: FeatureStore,
    where: str,
    *,
    lengths: Array | None = None,
    names: Sequence[str] | None = None,
) -> dict[bytes, int]:
    """Read every image once, and note what was seen.

    Args:
        report: takes the notes.
        store: the features.
        where: the file, for what is wrong.
        lengths: (N,) regions that an image really has; None = all.
        names: what the images are called; None = by their places.

    Returns:
        The first image of each kind of features, by their hash.
    """
    look = _Look(where, names)
    for image in range(len(store)):
        rows = report.attempt(partial(store.__getitem__, image))
        if rows is not None:
            look.add(image, rows, len(rows) if lengths is None else int(lengths[image]))
    report.problems += look.problems()
    report.warnings += look.warnings(padded=lengths is not None)
    report.found += look.statistics()
    return look.prints


class _Look:
    """What was seen of the images so far."""

    def __init__(self, where: str, names: Sequence[str] | None) -> None:
        self.where, self.names = where, names
        self.prints: dict[bytes, int] = {}
        self.bad: list[tuple[int, int]] = []  # image and region, of NaN and infinity
        self.none: list[int] = []  # images without regions
        self.empty: list[int] = []
        self.beyond: list[int] = []  # images with numbers beyond their length
        self.twice: list[tuple[int, int]] = []
        self.zeros = 0
        self.regions: list[int] = []
        self.norms: list[tuple[float, float]] = []  # mean and largest

    def add(self, image: int, rows: Array, count: int) -> None:
        """Look at one image, of which ``count`` rows are real."""
        real = rows[:count]
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.sqrt(np.square(real, dtype=np.float64).sum(-1))  # (R,)
        bad = np.flatnonzero(~np.isfinite(norms))
        self.bad += [(image, int(region)) for region in bad]
        self.beyond += [image] if count < len(rows) and bool(np.any(rows[count:])) else []
        self.regions.append(count)
        if count == 0:
            self.none.append(image)
            return
        if not norms.any():
            self.empty.append(image)
            return
        self.zeros += int((norms == 0).sum())
        if not len(bad):
            self.norms.append((float(norms[norms > 0].mean()), float(norms.max())))
        first = self.prints.setdefault(fingerprint(real), image)
        self.twice += [(image, first)] if first != image else []

    def problems(self) -> Iterator[str]:
        """NaN and infinity, and nothing but zeros."""
        if self.bad:
            yield self._told(self.bad, f"region {self.bad[0][1]}: NaN or inf in the features", sep=" ")
        if self._holds_nothing:
            yield f"{self.where}: zeros alone in the features of all images; was the file made and never filled?"

    def warnings(self, *, padded: bool) -> Iterator[str]:
        """What is read, and looks wrong."""
        if self.none:
            yield self._told(self.none, "no regions; it is read as one region of zeros")
        if self.empty and not self._holds_nothing:
            yield self._told(self.empty, "zeros alone in the features")
        if self.zeros:
            unless = "by the lengths too" if padded else "a lengths file says which are none"
            yield f"{self.where}: {counted(self.zeros, 'regions')} of zeros alone, taken for regions; {unless}"
        if self.beyond:
            yield self._told(self.beyond, "numbers beyond its length; are the lengths of other features?")
        if len(self.twice) > _MANY * len(self.regions):
            yield self._told(self.twice, f"has the features of image {self._name(self.twice[0][1])}", sep=" ")
        usual, largest = self._scale()
        if self.norms and not _SCALES[0] <= usual <= _SCALES[1]:
            yield f"{self.where}: norms near {usual:.3g}, expected {_SCALES[0]:g} to {_SCALES[1]:g}"
        if largest > _FAR * usual:
            yield f"{self.where}: a norm of {largest:.3g}, most are near {usual:.3g}; is a part of another scale?"

    def statistics(self) -> Iterator[str]:
        """Numbers of regions, and norms."""
        if self.norms and not self.bad:
            least, most = min(self.regions), max(self.regions)
            share = f"{least}" if least == most else f"{least} to {most}, {np.mean(self.regions):.1f} in the mean,"
            norms = "their norms near {:.3g} and up to {:.3g}".format(*self._scale())
            yield f"{share} regions per image, {norms}"

    @property
    def _holds_nothing(self) -> bool:
        """Whether all images that have regions hold zeros alone."""
        return bool(self.empty) and len(self.empty) + len(self.none) == len(self.regions)

    def _scale(self) -> tuple[float, float]:
        """The usual norm, and the largest."""
        if not self.norms:
            return 0.0, 0.0
        return float(np.median([mean for mean, _ in self.norms])), max(largest for _, largest in self.norms)

    def _told(self, places: Sequence[int] | Sequence[tuple[int, int]], what: str, sep: str = ": ") -> str:
        first = places[0] if isinstance(places[0], int) else places[0][0]
        more = f" ({len(places)} such in all)" if len(places) > 1 else ""
        return f"{self.where}: image {self._name(first)}{sep}{what}{more}"

    def _name(self, image: int) -> str:
        return str(image) if self.names is None else repr(self.names[image])


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
            told = f"{first} and {second} share {counted(len(common), 'image ids')}, the first is {common[0]!r}"
            report.warnings.append(f"{report.path}: {told}")
        elif equal:
            report.warnings.append(
                f"{report.path}: {len(equal)} images of {first} have the features of images of {second}, the first is "
                f"image {equal[0]}"
            )
