"""Figure: semantic twin accuracy against the share of corrupted edges, from results of scenes.py.

python examples/results/plot_corruption.py runs/results corruption.svg
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from scenes import LABELS, SHARES

KINDS = {"edge_dropout": "edges dropped", "edge_rewiring": "edges rewired"}
NAMES = {"hire": "C1", "cmsei_both": "C0"}


def ceiling(share: float) -> float:
    """What a model can reach that knows every other edge: the others are a toss-up."""
    return 100 * (1 - share / 2)


def main(folder: Path, figure: Path) -> None:
    """Read the results in a folder, write the figure."""
    mpl.rcParams["svg.hashsalt"] = "itmatch"  # the same figure from the same results
    _, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    for axis, (kind, title) in zip(axes, KINDS.items(), strict=True):
        for name, colour in NAMES.items():
            runs = [json.loads(path.read_text())["corrupted"] for path in sorted(folder.glob(f"{name}.seed*.json"))]
            curves = [[run[f"{kind}_{share:.1f}"]["twin_accuracy_semantic"] for run in runs] for share in SHARES]
            mean = [statistics.mean(values) for values in curves]
            spread = [statistics.stdev(values) if len(values) > 1 else 0 for values in curves]
            axis.errorbar(
                [100 * s for s in SHARES], mean, spread, color=colour, marker="o", capsize=3, label=LABELS[name]
            )
        axis.plot([100 * s for s in SHARES], [ceiling(s) for s in SHARES], color="0.6", linestyle=":", label="ceiling")
        axis.axhline(50, color="0.8", linewidth=0.8)
        axis.set_xlabel(f"{title}, % of true edges")
    axes[0].set_ylabel("semantic twin accuracy, %")
    axes[0].legend(frameon=False)
    figure.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(figure, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
