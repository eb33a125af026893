"""Figure: how hard each score loss pulls at a positive and pushes at a negative, against the score of the negative.

python examples/results/plot_losses.py docs/figures/losses.svg
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from itmatch import losses

POSITIVE, OTHER, BACKGROUND, RELEVANCE = 0.6, 0.45, 0.1, 0.7
PAIRS = 4
RELEVANT = torch.eye(PAIRS)
RELEVANT[0, 1] = RELEVANCE
PANELS = {
    "HardNegativeTriplet": losses.HardNegativeTripletLoss(),
    "HardNegativeTriplet, all": losses.HardNegativeTripletLoss(negatives="all"),
    "SelectiveHardNegative": losses.HardNegativeTripletLoss(negatives=losses.SelectiveNegatives()),
    "DistanceWeightedTriplet": losses.HardNegativeTripletLoss(negatives=losses.DistanceWeightedNegatives(dim=64)),
    "AdaptiveMarginTriplet *": partial(losses.AdaptiveMarginTripletLoss(), relevance=RELEVANT),
    "Ladder *": partial(losses.LadderLoss(), relevance=RELEVANT),
    "PositiveNegativeMargin": losses.PositiveNegativeMarginLoss(),
    "Polynomial": losses.PolynomialLoss(),
    "InfoNCE": losses.InfoNCELoss(),
    "Sigmoid": losses.SigmoidLoss(),
    "HubnessAware": losses.HubnessAwareLoss(),
    "Circle": losses.CircleLoss(),
    "SmoothNDCG": losses.SmoothNDCGLoss(),
    "TripletAlignment": losses.TripletAlignmentLoss(),
    "SimilarityDistribution": losses.SimilarityDistributionLoss(),
}


def slopes(loss: object, negative: float) -> tuple[float, float]:
    """|dL/ds| of the pair (0, 0) and of the pair (0, 1), whose score is ``negative``; image 0 has another at 0.45."""
    scores = torch.full((PAIRS, PAIRS), BACKGROUND)
    scores.fill_diagonal_(POSITIVE)
    scores[0, 1], scores[0, 2] = negative, OTHER
    scores.requires_grad_()
    value: Tensor = loss(scores)  # type: ignore[operator]
    (slope,) = torch.autograd.grad(value, scores)
    return abs(slope[0, 0].item()), abs(slope[0, 1].item())


def main(figure: Path) -> None:
    """Write the figure."""
    mpl.rcParams.update({"svg.hashsalt": "itmatch", "svg.fonttype": "none", "font.size": 8})
    _, grid = plt.subplots(4, 4, figsize=(9, 7.5), sharex=True, layout="constrained")
    negatives = torch.linspace(-0.2, 1.0, 161).tolist()
    for axis, (name, loss) in zip(grid.flat, PANELS.items(), strict=False):
        positive, negative = zip(*(slopes(loss, value) for value in negatives), strict=True)
        for score, style in ((POSITIVE, "-"), (OTHER, ":")):
            axis.axvline(score, color="0.8", linewidth=0.8, linestyle=style)
        axis.plot(negatives, positive, color="C0", label="positive")
        axis.plot(negatives, negative, color="C1", linestyle="--", label="negative")
        axis.set_title(name, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_tick_params(labelbottom=True)
    for axis in grid.flat[len(PANELS) :]:
        axis.axis("off")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    grid.flat[len(PANELS)].legend(handles, labels, title="|dL/ds| of the", loc="center", frameon=False)
    plt.gcf().supxlabel("score of the negative; the positive has 0.6 (line), another negative of the image 0.45 (dots)")
    figure.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(figure, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
