"""How much of the product of regions and words ranks and searches need, if bounds decide the other pairs.

    python examples/benchmarks/bounds.py --data DATA/flickr8k --checkpoint MODEL

Fragments of a trained model are turned so that their first numbers say most. A prefix of the numbers is multiplied for
all pairs, the lengths of what is left bound the rest (Cauchy-Schwarz), and the rest is multiplied for the pairs that
the bounds do not decide. Multiply-adds are counted, and one prefix is timed. docs/benchmarks.md says what was found.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from measure import add_common_options, begin, print_table, write_json
from search import TOP, loaded
from torch import Tensor

from itmatch.data import PrecompFolder

ROUNDING = 1e-4  # of a score; a bound that is broken by more is a fault
WORDS = 4096  # that are bounded at a time
IMAGES = 8  # likewise
BLOCK = 1 << 19  # products that are made at a time where they are timed
COLUMNS = 1024  # words, likewise

Row = dict[str, Any]


@dataclass(frozen=True)
class Sides:
    """Regions (I, R, D) and words (N, D), the caption of each word, and the image of each caption."""

    regions: Tensor
    words: Tensor
    caption: Tensor
    image_of: Tensor

    @property
    def words_of(self) -> Tensor:
        """(T,) words of each caption."""
        return self.caption.bincount(minlength=len(self.image_of))

    def turned(self, image: Tensor, text: Tensor) -> Sides:
        """In other axes, (D, D) of each side."""
        return Sides(self.regions @ image, self.words @ text, self.caption, self.image_of)


def encoded(options: argparse.Namespace) -> Sides:
    """A split by the model, all of its captions or those of its first images."""
    model, split = loaded(options.checkpoint), PrecompFolder(options.data, boxes=None, test=options.split).split("test")
    count = min(options.images or split.num_images, split.num_images)
    image_of = torch.as_tensor(split.caption_image)
    chosen = (image_of < count).nonzero()[:, 0]
    image = model.encode_images([split.image(i).features for i in range(count)])
    text = model.encode_texts([split.captions[i] for i in chosen.tolist()])
    if not bool(image.mask.all()):
        raise SystemExit(f"{options.data}: images with fewer regions than others; these counts want the same number")
    caption = torch.arange(len(chosen))[:, None].expand(text.mask.shape)[text.mask]
    return Sides(image.features, text.features[text.mask], caption, image_of[chosen])


def principal(regions: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """The main axes of the second moments of both sides, of equal weight: a rotation."""
    moments = [x.T @ x / x.square().sum() for x in (regions.double(), words.double())]
    axes = torch.linalg.eigh(sum(moments)).eigenvectors.flip(1).float()
    return axes, axes


def balanced(regions: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Axes of each side in which both have the same diagonal moments; products stay, lengths do not.

    Of all linear maps that leave the products as they are these make the mean bound of what is left smallest.
    """
    roots = []
    for x in (regions.double(), words.double()):
        moments = x.T @ x / len(x)
        ridge = 1e-6 * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
        roots.append(torch.linalg.cholesky(moments + ridge))
    left, sizes, right = torch.linalg.svd(roots[1].T @ roots[0])
    return (roots[1] @ left / sizes.sqrt()).float(), (roots[0] @ right.T / sizes.sqrt()).float()


AXES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {"principal": principal, "balanced": balanced}


@dataclass(frozen=True)
class Bounds:
    """What a prefix says of all pairs, (I, T) each: no less and no more than, and region-word products in question."""

    lower: Tensor
    upper: Tensor
    close: Tensor
    cost: int  # multiply-adds of a product

    @classmethod
    def of(cls, sides: Sides, prefix: int, groups: int, pooling: str) -> Bounds:
        """Of ``prefix`` numbers and the lengths of ``groups`` parts of what is left."""
        heads, tails = zip(*(_split(x, prefix, groups) for x in (sides.regions, sides.words)), strict=True)
        shape = (3, len(sides.regions), len(sides.image_of))
        lower, upper, close = torch.zeros(shape).unbind(0)
        for start in range(0, len(sides.words), WORDS):
            words = slice(start, start + WORDS)
            for first in range(0, shape[1], IMAGES):
                rows = slice(first, first + IMAGES)
                known = heads[0][rows] @ heads[1][words].T  # (i, R, n)
                slack = tails[0][rows] @ tails[1][words].T
                most, least = known + slack, known.sub_(slack).amax(1)
                found = (least, most.amax(1), (most >= least[:, None]).sum(1).float())
                for total, part in zip((lower, upper, close), found, strict=True):
                    total[rows].index_add_(1, sides.caption[words], part)
        if pooling == "mean":
            lower, upper = lower / sides.words_of, upper / sides.words_of
        return cls(lower, upper, close, prefix + (groups if prefix < sides.words.shape[1] else 0))


def _split(values: Tensor, prefix: int, groups: int) -> tuple[Tensor, Tensor]:
    left = values[..., prefix:].tensor_split(groups, -1)
    return values[..., :prefix], torch.stack([part.norm(dim=-1) for part in left], -1)


@dataclass(frozen=True)
class Counted:
    """The exact scores (I, T) of the pairs, and who asks for which of them."""

    sides: Sides
    exact: Tensor

    def open(self, bounds: Bounds) -> dict[str, Tensor]:
        """(I, T) bool, the pairs that bounds do not decide: for ranks of either side, for both, for the best ten."""
        image_of, exact = self.sides.image_of, self.exact
        mine = image_of == torch.arange(len(exact))[:, None]
        own = exact[image_of, torch.arange(len(image_of))]
        best = torch.full((len(exact),), torch.inf).scatter_reduce_(0, image_of, own, "amax", include_self=False)
        found = {}
        for name, asked in (("captions", own), ("images", best[:, None])):
            found[name] = (bounds.upper >= asked) & (bounds.lower < asked) | mine
        found["both"] = found["captions"] | found["images"]
        found["top"] = bounds.upper >= exact.topk(min(TOP, len(exact)), 0).values[-1]
        return found

    def row(self, stages: list[Bounds], axes: str, groups: int) -> Row:
        """The shares of the product that a prefix needs, or several, one after the other."""
        size = self.sides.words.shape[1]
        weight = self.sides.words_of.float().expand_as(self.exact) * self.sides.regions.shape[1]
        prefixes = [stage.cost - groups for stage in stages]
        row: Row = {"axes": axes, "prefix": " + ".join(map(str, prefixes)), "lengths": groups}
        for name in ("captions", "images", "both", "top"):
            still, cost, before = torch.ones_like(weight, dtype=torch.bool), 0.0, 0
            for stage, prefix in zip(stages, prefixes, strict=True):
                cost += (prefix - before + groups) * float(weight[still].sum())
                still, before = still & self.open(stage)[name], prefix
            left = size - before
            row[name] = (cost + left * float(weight[still].sum())) / (size * float(weight.sum()))
            row[f"{name} undecided"] = float(weight[still].sum() / weight.sum())
            row[f"{name} single"] = (cost + left * float(stages[-1].close[still].sum())) / (size * float(weight.sum()))
        return row


def check(bounds: Bounds, counted: Counted, where: str) -> None:
    """Stop if a bound does not hold, or ranks of captions from bounds are others."""
    exact, image_of = counted.exact, counted.sides.image_of
    if bool(((bounds.lower > exact + ROUNDING) | (bounds.upper < exact - ROUNDING)).any()):
        raise SystemExit(f"{where}: a score is outside its bounds")
    own = exact[image_of, torch.arange(len(image_of))]
    mixed = torch.where(counted.open(bounds)["captions"], exact, bounds.upper)
    if not torch.equal((mixed >= own).sum(0), (exact >= own).sum(0)):
        raise SystemExit(f"{where}: ranks are others")


def rows_of(sides: Sides, options: argparse.Namespace) -> Iterator[Row]:
    """One row a prefix, and one for every two of them."""
    size = sides.words.shape[1]
    counted = Counted(sides, Bounds.of(sides, size, 1, options.pooling).upper)
    for name in options.axes:
        turned = sides.turned(*AXES[name](sides.regions.flatten(0, 1), sides.words))
        for groups in options.lengths:
            found = [Bounds.of(turned, prefix, groups, options.pooling) for prefix in options.prefixes]
            for prefix, bounds in zip(options.prefixes, found, strict=True):
                check(bounds, counted, f"{name}, {prefix} of {size} numbers")
            for stages in [[bounds] for bounds in found] + [list(two) for two in combinations(found, 2)]:
                yield counted.row(stages, name, groups)


def pooled_best(regions: Tensor, words: Tensor, sides: Sides) -> Tensor:
    """(I, T) means over the words of their largest products: what is timed."""
    best = torch.empty(len(regions), len(words))
    step = max(1, BLOCK // (regions.shape[1] * COLUMNS))
    for start in range(0, len(regions), step):
        part = regions[start : start + step]
        for column in range(0, len(words), COLUMNS):
            products = part.flatten(0, 1) @ words[column : column + COLUMNS].T
            best[start : start + step, column : column + COLUMNS] = products.view(*part.shape[:2], -1).amax(1)
    return torch.zeros(len(regions), len(sides.image_of)).index_add_(1, sides.caption, best) / sides.words_of


def counts(scores: Tensor, own: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs that reach the right answer, of each caption and of each image."""
    return (scores >= own).sum(0), (scores >= best[:, None]).sum(1)


def best_own(own: Tensor, sides: Sides) -> Tensor:
    """(I,) the best score of an image with a caption of its own."""
    start = torch.full((len(sides.regions),), -torch.inf)
    return start.scatter_reduce_(0, sides.image_of, own, "amax")


def ranks(sides: Sides) -> tuple[Tensor, Tensor]:
    """From all scores."""
    scores = pooled_best(sides.regions, sides.words, sides)
    own = scores[sides.image_of, torch.arange(len(sides.image_of))]
    return counts(scores, own, best_own(own, sides))


def ranks_from_bounds(sides: Sides, heads: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same, from the scores that prefixes allow, and exact ones of the images that a caption leaves open.

    The last number of a head is the length of what is left, so that the product of heads is the bound.
    """
    words = sides.words.split(sides.words_of.tolist())
    own = torch.stack(
        [(sides.regions[i] @ w.T).amax(0).mean() for i, w in zip(sides.image_of.tolist(), words, strict=True)]
    )
    best, scores = best_own(own, sides), pooled_best(*heads, sides)
    left_open = scores >= torch.minimum(own, best[:, None]) - ROUNDING
    for caption, part in enumerate(words):
        rows = left_open[:, caption].nonzero()[:, 0]
        products = sides.regions[rows].flatten(0, 1) @ part.T
        scores[rows, caption] = products.view(len(rows), -1, len(part)).amax(1).mean(1)
    scores[sides.image_of, torch.arange(len(own))] = own
    return counts(scores, own, best)


def timed(sides: Sides, prefix: int, repeat: int) -> str:
    """What the ranks of both sides take with and without bounds, in seconds of the processor."""
    turned = sides.turned(*balanced(sides.regions.flatten(0, 1), sides.words))
    heads = tuple(torch.cat(_split(x, prefix, 1), -1) for x in (turned.regions, turned.words))
    works: dict[str, Callable[[], Any]] = {
        "from all scores": lambda: ranks(sides),
        "from bounds": lambda: ranks_from_bounds(sides, heads),
        "bounds alone": lambda: pooled_best(*heads, sides),
    }
    others = sum(int((a != b).sum()) for a, b in zip(*(list(works.values())[i]() for i in (0, 1)), strict=True))
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            start = time.process_time()
            work()
            spent[name].append(time.process_time() - start)
    median = {name: statistics.median(values) for name, values in spent.items()}
    seconds = ", ".join(f"{name} {value:.3g} s" for name, value in median.items())
    return f"ranks by means, with {prefix} of {sides.words.shape[1]} numbers: {seconds}; {others} others"


def main() -> None:
    """Count, time and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", required=True, help="folder of the precomputed layout")
    parser.add_argument("--checkpoint", required=True, help="of a model with hard alignment, as of search.py")
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, help="only the first, and their captions")
    parser.add_argument("--pooling", choices=["mean", "sum"], default="mean", help="over the words")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--prefixes", type=int, nargs="+", default=[16, 32, 48, 64, 96])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 4], help="lengths that are kept of what is left")
    parser.add_argument("--timed", type=int, default=64, help="the prefix that is timed")
    parser.add_argument("--repeat", type=int, default=3, help="times are medians of so many turns")
    add_common_options(parser)
    options = parser.parse_args()
    with torch.no_grad():
        sides = encoded(options)
        options.dim = sides.words.shape[1]
        if max(options.prefixes) >= options.dim:
            parser.error(
                f"--prefixes {max(options.prefixes)}: expected less than the {options.dim} numbers of a fragment"
            )
        _, facts = begin(options)
        rows = list(rows_of(sides, options))
        found = timed(sides, options.timed, options.repeat)
    print(f"{len(sides.regions)} images, {len(sides.image_of)} captions, {len(sides.words)} words, D = {options.dim}\n")
    columns: dict[str, Callable[[Row], str]] = {
        "axes": lambda row: row["axes"],
        "prefix": lambda row: row["prefix"],
        "lengths": lambda row: str(row["lengths"]),
        "undecided": lambda row: f"{row['both undecided']:.3f}",
        "ranks of captions": lambda row: f"{row['captions']:.3f}",
        "ranks of images": lambda row: f"{row['images']:.3f}",
        "both": lambda row: f"{row['both']:.3f}",
        "both, single products": lambda row: f"{row['both single']:.3f}",
        "best ten": lambda row: f"{row['top']:.3f}",
    }
    print_table(columns, rows)
    print(f"\n{found}")
    write_json(options.json, facts | {"timed": found}, rows)


if __name__ == "__main__":
    main()
