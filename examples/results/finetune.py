"""The ways to start a training on other photos: CHAN, first on photos without dogs, then on photos with dogs.

    python examples/results/finetune.py DATA/flickr8k --out runs/finetune

Both sets are taken from the training photos of a folder of region features (PrecompFolder). All runs are those of the
command line, so what is measured is what a user gets. A run that was interrupted begins anew, one that is done stays.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LABELS = {
    "none": "none, the first model as it is",
    "nothing": "from nothing",
    "init_from": "`--init_from` the first model",
    "resumed": "`--ckpt_path`, `max_epochs` 8",
}
SIZES = {"train": 1000, "dev": 200}, {"train": 300, "dev": 200, "test": 500}
EPOCHS = 4


def write_sets(root: Path, first: Path, second: Path) -> None:
    """Photos without "dog" in their captions, and photos with it, as two folders."""
    captions = np.array((root / "train_caps.txt").read_text().splitlines()).reshape(-1, 5)
    features = np.load(root / "train_ims.npy", mmap_mode="r")
    dogs = np.array(["dog" in " ".join(of_photo).lower() for of_photo in captions])
    for folder, rows, sizes in ((first, ~dogs, SIZES[0]), (second, dogs, SIZES[1])):
        folder.mkdir(parents=True, exist_ok=True)
        chosen = iter(np.flatnonzero(rows).tolist())
        for split, size in sizes.items():
            photos = [next(chosen) for _ in range(size)]
            np.save(folder / f"{split}_ims.npy", features[photos])
            (folder / f"{split}_caps.txt").write_text("\n".join(captions[photos].ravel()) + "\n")


def run(out: Path, command: str, *options: str | Path) -> Path:
    """Run one command of ``itmatch`` unless it is done; returns the folder of the run."""
    done = out / "done"
    if not done.exists():
        shutil.rmtree(out, ignore_errors=True)
        words = ["--data.tokenizer=WordTokenizer", "--data.tokenizer.min_count=2"]
        fixed = ["--config=chan_features", *words, f"--trainer.logger.save_dir={out}"]
        quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        subprocess.run([sys.executable, "-m", "itmatch", command, *fixed, *quiet, *map(str, options)], check=True)
        done.touch()
    return max(out.rglob("version_*"))


def starts(out: Path, sets: tuple[Path, Path], seed: int) -> Iterator[tuple[str, Path]]:
    """The runs of one seed, with the name of the start of each."""
    seeded, epochs = f"--seed_everything={seed}", f"--trainer.max_epochs={EPOCHS}"
    first, second = (f"--data.source.root={folder}" for folder in sets)
    before = run(out / "first", "fit", first, seeded, epochs, "--test_after_fit=false") / "checkpoints"
    yield "none", run(out / "none", "test", second, f"--ckpt_path={before}/best.ckpt")
    yield "nothing", run(out / "nothing", "fit", second, seeded, epochs)
    yield "init_from", run(out / "init_from", "fit", second, seeded, epochs, f"--init_from={before}/best.ckpt")
    longer = f"--trainer.max_epochs={2 * EPOCHS}"
    yield "resumed", run(out / "resumed", "fit", second, seeded, longer, f"--ckpt_path={before}/last.ckpt")


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of region features and captions (PrecompFolder)")
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"), help="folder of the sets and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    sets = options.out / "without_dogs", options.out / "dogs"
    write_sets(options.root, *sets)
    rsum: dict[str, list[float]] = {name: [] for name in LABELS}
    for seed in options.seeds:
        for name, folder in starts(options.out / f"seed{seed}", sets, seed):
            rsum[name].append(json.loads((folder / "test_metrics.json").read_text())["rsum"])
    print("| training on the photos with dogs | rSum |\n|---|---|")
    for name, values in rsum.items():
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        print(f"| {LABELS[name]} | {statistics.mean(values):.1f}{spread} |")


if __name__ == "__main__":
    main()
