"""The losses, each in the place of the triplet: CHAN on photos, the budget of budget.py.

    python examples/results/losses.py DATA/flickr8k --vectors DATA/word_vectors/glove.8k.100d.txt --seeds 0

The settings are the papers' where these fit the scale of the scores (means of cosines, hard alignment), and otherwise
what is written in VARIANTS; none was searched for on this data. Ladder and adaptive margin are left out, since they
compare measures of relevance. Losses of vectors stand beside the triplet, since the score of CHAN is none.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from typing import Any

from budget import EMBED_DIM, PHOTOS, encoders, run_all

MARGIN = 0.05
BUDGET = replace(PHOTOS, validate_every=1)


def parts(
    data: Any, vectors: str | None, *, loss: str, arguments: dict[str, Any] | None = None, beside: bool = False
) -> dict[str, Any]:
    """CHAN with a loss by its name, alone or beside the triplet."""
    from itmatch import losses, nn
    from itmatch.spec import build

    arguments = {name: build(value) for name, value in (arguments or {}).items()}
    objective = getattr(losses, loss)(**arguments)
    if beside:
        triplet = losses.HardNegativeTripletLoss(margin=MARGIN, warmup_epochs=1)
        objective = losses.Objective({"triplet": triplet, "vectors": objective})
    options: dict[str, Any] = {"pooling": nn.MeanPooling()} if beside else {}
    return {
        **encoders(data, vectors, text=options, **options),
        "similarity": nn.HardAligningSimilarity(pooling=nn.MeanPooling()),
        "objective": objective,
    }


TRIPLET = {"class_path": "itmatch.losses.HardNegativeTripletLoss"}
SELECTIVE = {"class_path": "itmatch.losses.SelectiveNegatives"}
WEIGHTED = {"class_path": "itmatch.losses.DistanceWeightedNegatives", "init_args": {"dim": EMBED_DIM}}
VARIANTS = {
    "triplet": partial(parts, loss="HardNegativeTripletLoss", arguments={"margin": MARGIN, "warmup_epochs": 1}),
    "triplet_all": partial(parts, loss="HardNegativeTripletLoss", arguments={"margin": MARGIN, "negatives": "all"}),
    "infonce": partial(parts, loss="InfoNCELoss", arguments={"temperature": 0.05}),
    "sigmoid": partial(parts, loss="SigmoidLoss"),
    "polynomial": partial(parts, loss="PolynomialLoss"),
    "hal": partial(parts, loss="HubnessAwareLoss"),
    "circle": partial(parts, loss="CircleLoss"),
    "selective": partial(parts, loss="HardNegativeTripletLoss", arguments={"margin": MARGIN, "negatives": SELECTIVE}),
    "smooth_ndcg": partial(parts, loss="SmoothNDCGLoss"),
    "distance_weighted": partial(parts, loss="HardNegativeTripletLoss", arguments={"negatives": WEIGHTED}),
    "positive_negative": partial(
        parts, loss="PositiveNegativeMarginLoss", arguments={"positive_margin": 0.5, "negative_margin": 0.3}
    ),
    "center": partial(parts, loss="CenterHingeLoss", beside=True),
    "queue": partial(parts, loss="MemoryLoss", arguments={"loss": TRIPLET, "embed_dim": EMBED_DIM}, beside=True),
}
LABELS = {
    "triplet": "triplet, hardest negative",
    "triplet_all": "triplet, all negatives",
    "infonce": "InfoNCE, temperature 0.05",
    "sigmoid": "sigmoid",
    "polynomial": "polynomial",
    "hal": "HAL",
    "circle": "circle",
    "selective": "SelHN",
    "smooth_ndcg": "smooth NDCG",
    "distance_weighted": "distance-weighted",
    "positive_negative": "positive-negative margin",
    "center": "triplet + center hinge",
    "queue": "triplet + off-batch hardest",
}


def print_losses(results: dict[str, list[dict[str, Any]]]) -> None:
    """A table: rSum on test photos, the best on development photos, and when the triplet's best there was reached."""
    print(
        "| | test rSum | best dev rSum | epochs to the triplet's best | ms a step | seeds |\n|---|---|---|---|---|---|"
    )
    goal = [max(run["dev_rsum"]) for run in results["triplet"]]
    for name, runs in sorted(results.items(), key=lambda item: -statistics.mean(r["test"]["rsum"] for r in item[1])):
        cells = []
        for values in ([run["test"]["rsum"] for run in runs], [max(run["dev_rsum"]) for run in runs]):
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        first = [epochs_to(run["dev_rsum"], best) for run, best in zip(runs, goal, strict=False)]
        cells += [", ".join(first), f"{min(run['step_ms'] for run in runs):.0f}", str(len(runs))]
        print("| " + " | ".join([LABELS[name], *cells]) + " |")


def epochs_to(dev: list[float], goal: float) -> str:
    """The first epoch, counted from 1, that reaches the goal, or a dash."""
    return next((str(epoch) for epoch, rsum in enumerate(dev, start=1) if rsum >= goal), "-")


if __name__ == "__main__":
    print_losses(run_all(VARIANTS, __doc__.splitlines()[0], BUDGET))
