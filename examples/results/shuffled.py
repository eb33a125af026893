"""Losses where training captions are of wrong images: CHAN on photos, with 0, 20 and 40 % of the captions mixed up.

    python examples/results/shuffled.py DATA/flickr8k --vectors DATA/word_vectors/glove.8k.100d.txt

Encoders, optimizer and augmentation are those of budget.py; BUDGET below is smaller. The captions that are mixed up are
the same for all losses and seeds. Development and test photos keep their captions. The triplet and NCR have the margin
of the other tables of CHAN, the rest the settings of their papers; none was searched for on this data.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

from budget import Budget, encoders, photos, run_all

MARGIN = 0.05
SHARES = (0, 20, 40)  # percent
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "triplet": ("HardNegativeTripletLoss", {"margin": MARGIN, "warmup_epochs": 1}),
    "triplet_all": ("HardNegativeTripletLoss", {"margin": MARGIN, "negatives": "all"}),
    "tal": ("TripletAlignmentLoss", {}),
    "sdm": ("SimilarityDistributionLoss", {}),
    "ncr": ("SoftMarginTripletLoss", {"margin": MARGIN, "warmup_epochs": 2}),
    "crcl": ("ComplementaryLoss", {"warmup_epochs": 2}),
}
LABELS = {
    "triplet": "triplet, hardest negative",
    "triplet_all": "triplet, all negatives",
    "tal": "TAL",
    "sdm": "SDM",
    "ncr": "NCR, one network",
    "crcl": "CRCL",
}
BUDGET = Budget(epochs=6, make_data=partial(photos, train=1500, val=300, test=400), validate_every=2)


def parts(data: Any, vectors: str | None, *, loss: str, percent: int) -> dict[str, Any]:
    """CHAN with a loss; and the training captions of ``data`` exchange their images."""
    from itmatch import losses, nn
    from itmatch.data import shuffle_captions

    data.datasets["train"] = shuffle_captions(data.dataset("train"), percent / 100)
    name, arguments = LOSSES[loss]
    return {
        **encoders(data, vectors),
        "similarity": nn.HardAligningSimilarity(pooling=nn.MeanPooling()),
        "objective": getattr(losses, name)(**arguments),
    }


VARIANTS = {f"{loss}_{percent}": partial(parts, loss=loss, percent=percent) for percent in SHARES for loss in LOSSES}


def print_shares(results: dict[str, list[dict[str, Any]]]) -> None:
    """A table: rSum on test photos by loss and by the share of mixed-up captions."""
    print("| loss | " + " | ".join(f"{percent} % mixed up" for percent in SHARES) + " | seeds |")
    print("|---" * (len(SHARES) + 2) + "|")
    for loss, label in LABELS.items():
        cells, done = [], [run for percent in SHARES for run in results.get(f"{loss}_{percent}", [])]
        for percent in SHARES:
            values = [run["test"]["rsum"] for run in results.get(f"{loss}_{percent}", [])]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "")
        if done:
            seeds = max(len(results.get(f"{loss}_{percent}", [])) for percent in SHARES)
            cells.append(str(seeds))
            print("| " + " | ".join([label, *cells]) + " |")


if __name__ == "__main__":
    print_shares(run_all(VARIANTS, __doc__.splitlines()[0], BUDGET))
