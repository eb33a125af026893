"""Learning curves: does structure help most when photos are few? Systems trained on 1, 5, 25 and 100 % of the photos.

    itmatch data parse DATA/flickr8k train dev test --triples
    python examples/results/curves.py DATA/flickr8k --vectors DATA/word_vectors/glove.8k.100d.txt --figure curves.svg

Encoders, optimizer and augmentation are those of budget.py, margins those of systems.py. Which photos are trained on
follows from the seed, and is the same for all systems. Words are those of all training captions at every size, since
word vectors need no photos. A run takes 600 steps of 32 captions, 564 with 5 % of the photos, 320 with 1 %.
All negatives in its first quarter, the hardest ones after it. It is measured on dev photos after each quarter; the best
of the four models is tested, on the first 400 test photos.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from budget import Budget, Variant, add_options, encoders, images_of, mean, photos, relations, resg, run_each, scoring
from systems import GRAPH, PREDICATES, TEST_PHOTOS

DEV_PHOTOS = 200
BATCHES = 150  # an epoch ends after so many steps at most
EPOCHS = {1: 32, 5: 12, 25: 4, 100: 4}  # by percent of the photos
MARGIN, COSINE_MARGIN = 0.05, 0.2
LABELS = {"cosine": "mean-pooled cosine", "chan": "CHAN", "hire": "Hire", "resg": "ReSG"}

Results = Mapping[str, Mapping[int, list[dict[str, Any]]]]


def some_photos(options: argparse.Namespace, batch_size: int, *, percent: int, seed: int) -> Any:
    """A share of the training photos by chance, with words of all of them; the first dev and test photos."""
    import numpy as np

    data = photos(options, batch_size, val=DEV_PHOTOS, test=TEST_PHOTOS)
    train = data.dataset("train")
    data.tokenizer.fit(train.captions)
    number = round(train.num_images * percent / 100)
    chosen = np.sort(np.random.default_rng(seed).permutation(train.num_images)[:number])
    data.datasets["train"] = images_of((train, chosen.tolist()))
    return data


def aligned(
    data: Any, vectors: str | None, *, warmup: int = 1, name: str, margin: float = MARGIN, related: bool = False
) -> dict[str, Any]:
    """A system of one similarity; with Hire's relations of the regions, or with none."""
    found = relations(GRAPH, implicit=True) if related else None
    return {
        **encoders(data, vectors, relations=found),
        **scoring((name, {}), margin, warmup_epochs=warmup),
    }


def levels(data: Any, vectors: str | None, *, warmup: int = 1) -> dict[str, Any]:
    """ReSG, with its three losses."""
    return resg(
        data,
        vectors,
        graph={"predicates": PREDICATES, "min_confidence": GRAPH["min_confidence"]},
        margins={"triplet": MARGIN, "center": 0.2, "positive": 0.8, "negative": 0.4},
        triplet={"warmup_epochs": warmup},
        terms=("triplet", "center", "positive_negative"),
    )


VARIANTS: dict[str, Variant] = {
    "cosine": partial(aligned, name="CosineSimilarity", margin=COSINE_MARGIN),
    "chan": partial(aligned, name="HardAligningSimilarity"),
    "hire": partial(aligned, name="InteractiveSimilarity", related=True),
    "resg": levels,
}


def with_warmup(name: str, percent: int) -> Variant:
    """A system whose triplet loss has all negatives in the first quarter of the table's epochs."""
    return partial(VARIANTS[name], warmup=max(1, EPOCHS[percent] // 4))


def budget_of(percent: int, seed: int, epochs: int) -> Budget:
    """What runs with so many photos share; ``epochs`` instead of those of the table, unless it is 0."""
    epochs = epochs or EPOCHS[percent]
    make = partial(some_photos, percent=percent, seed=seed)
    return Budget(epochs, make, batch_size=32, validate_every=max(1, epochs // 4), batches=BATCHES)


def print_curves(results: Results) -> None:
    """A Markdown table: rSum on test photos, and what it is above the first system with the same photos."""
    sizes = sorted({percent for runs in results.values() for percent in runs})
    print("| rSum | " + " | ".join(f"{percent} %" for percent in sizes) + " | seeds |")
    print("|---" * (len(sizes) + 2) + "|")
    first = next(iter(results))
    for name, runs in results.items():
        cells = [mean(rsums(runs[percent])) for percent in sizes]
        print("| " + " | ".join([LABELS[name], *cells, str(len(runs[sizes[0]]))]) + " |")
    for name, runs in results.items():
        if name == first:
            continue
        pairs = [zip(rsums(runs[p]), rsums(results[first][p]), strict=True) for p in sizes]
        cells = [mean([one - other for one, other in pair]) for pair in pairs]
        print("| " + " | ".join([f"{LABELS[name]} - {LABELS[first]}", *cells, str(len(runs[sizes[0]]))]) + " |")


def rsums(runs: list[dict[str, Any]]) -> list[float]:
    """The rSum on test photos, seed by seed."""
    return [run["test"]["rsum"] for run in runs]


def draw(results: Results, photos_in_all: int, figure: Path) -> None:
    """Write the figure: rSum against the number of training photos."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "itmatch", "svg.fonttype": "none"})  # the same figure from the same results
    _, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for number, (name, runs) in enumerate(results.items()):
        sizes = sorted(runs)
        found = [rsums(runs[percent]) for percent in sizes]
        spread = [statistics.stdev(values) if len(values) > 1 else 0 for values in found]
        places = [photos_in_all * percent / 100 for percent in sizes]
        means = [statistics.mean(values) for values in found]
        axis.errorbar(places, means, spread, color=f"C{number}", marker="o", capsize=3, label=LABELS[name])
    axis.set_xscale("log")
    axis.set_xticks(places, [f"{place:.0f}" for place in places], minor=False)
    axis.set_xticks([], minor=True)
    axis.set_xlabel("training photos, five captions each")
    axis.set_ylabel("rSum")
    axis.legend(frameon=False)
    figure.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(figure, metadata={"Date": None} if figure.suffix == ".svg" else None)


def main() -> None:
    """Train what is missing, print the table, draw the figure if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder of region features and captions, with relations of the captions")
    parser.add_argument("--vectors", help="text file of word vectors; without it they start at random")
    parser.add_argument("--sizes", type=int, nargs="+", choices=EPOCHS, default=list(EPOCHS), help="percent of photos")
    parser.add_argument("--figure", type=Path, help="file of the figure, .svg or .png")
    add_options(parser, VARIANTS, epochs=0, out="runs/curves")
    options = parser.parse_args()
    runs = [
        (budget_of(percent, seed, options.epochs), f"{name}_{percent}", with_warmup(name, percent), seed, options)
        for seed in options.seeds
        for percent in options.sizes
        for name in options.only
    ]
    done = run_each(runs, options)
    results = {name: {percent: done[f"{name}_{percent}"] for percent in options.sizes} for name in options.only}
    print_curves(results)
    if options.figure:
        draw(results, photos(options, 1).dataset("train").num_images, options.figure)


if __name__ == "__main__":
    main()
