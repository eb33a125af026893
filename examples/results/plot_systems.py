"""Figure: recall of every system against the time of a pair, from the table of all systems in docs/results.md.

python examples/results/plot_systems.py docs/results.md docs/figures/systems.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

COLOURS = {
    0.5: ("C0", "one or a few vectors"),
    5.0: ("C2", "hard alignment"),
    1e9: ("C1", "attention, similarity vectors"),
}
BESIDE = {
    "HREM": (6, 6),
    "VSE-infinity": (6, -12),
    "ReSG": (-30, 4),
    "SCAN t2i": (-48, -12),
    "SCAN i2t": (-50, 2),
    "LAPS, regions": (-68, 6),
    "SCAN, both": (-58, 8),
    "CHAN": (-12, -14),
    "CMSEI": (-12, -16),
    "Hire": (6, 5),
    "SAF": (5, -12),
    "SGRAF, both": (-34, 12),
}  # points from the mark to the name


def rows(page: Path) -> dict[str, tuple[float, float, float]]:
    """Name of each system -> microseconds a pair, rSum, its standard deviation."""
    table = page.read_text(encoding="utf-8").split("## All systems")[1].split("\n\n- ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    head = lines[0]
    found = {}
    for cells in lines[2:]:
        mean, _, spread = cells[head.index("rSum")].partition(" ± ")
        found[cells[0]] = (float(cells[head.index("µs a pair")]), float(mean), float(spread))
    return found


def main(page: Path, figure: Path) -> None:
    """Read the table, write the figure."""
    mpl.rcParams.update({"svg.hashsalt": "itmatch", "svg.fonttype": "none"})  # the same figure from the same table
    _, axis = plt.subplots(figsize=(7.2, 4), layout="constrained")
    for name, (time, rsum, spread) in rows(page).items():
        colour = next(colour for most, (colour, _) in COLOURS.items() if time <= most)
        axis.errorbar(time, rsum, spread, color=colour, marker="o", capsize=2, linewidth=0.9)
        axis.annotate(name, (time, rsum), xytext=BESIDE.get(name, (6, 4)), textcoords="offset points", fontsize=8)
    for colour, kind in COLOURS.values():
        axis.plot([], [], color=colour, marker="o", linestyle="", label=kind)
    axis.set_xscale("log")
    axis.set_xlim(0.006, 600)
    axis.set_xlabel("time to score an encoded image with an encoded caption, microseconds")
    axis.set_ylabel("rSum, mean and spread of three seeds")
    axis.legend(frameon=False, loc="lower right", fontsize=8)
    figure.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(figure, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
