"""Loading training batches: samples a second from a file of float16 features that the system holds in memory.

    python examples/benchmarks/loading.py

Writes a folder of made-up features (36 x 2048 float16 an image) for the time of the run. The floor is the copy of a
sample's features, widened to float32, which a batch cannot do without; the textbook reads the file into memory in
float32, copies an image for every caption, and stacks. docs/benchmarks.md says how to read the table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import print_table, write_json
from torch.utils.data import DataLoader, Dataset

from itmatch.data import PrecompFolder, SizeAugmentation
from itmatch.training import MatchingData

CAPTIONS_AN_IMAGE = 5
WORDS = ("a", "dog", "cat", "man", "child", "on", "in", "with", "red", "blue", "ball", "street", "two", "people")
Row = dict[str, Any]


def write_folder(root: Path, options: argparse.Namespace) -> None:
    """The training split, and two images for each of the others."""
    rng = np.random.default_rng(0)
    for split, images in (("train", options.images), ("dev", 2), ("test", 2)):
        shape = (images, options.regions, options.features)
        features = np.lib.format.open_memmap(root / f"{split}_ims.npy", "w+", np.float16, shape)
        for image in features:
            image[:] = rng.standard_normal(shape[1:], dtype=np.float32)
        features.flush()
        texts = [" ".join(rng.choice(WORDS, 12)) for _ in range(CAPTIONS_AN_IMAGE * images)]
        (root / f"{split}_caps.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")


class Textbook(Dataset[tuple[torch.Tensor, list[int]]]):
    """All features in memory in float32; a sample is a caption with a copy of its image."""

    def __init__(self, root: Path) -> None:
        self.features = np.load(root / "train_ims.npy", allow_pickle=False).astype(np.float32)
        lines = (root / "train_caps.txt").read_text("utf-8").splitlines()
        ids = {word: number for number, word in enumerate(sorted({word for line in lines for word in line.split()}))}
        self.captions = [[ids[word] for word in line.split()] for line in lines]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, list[int]]:
        return torch.tensor(self.features[index // CAPTIONS_AN_IMAGE]), self.captions[index]


def stack(items: list[tuple[torch.Tensor, list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of the textbook."""
    longest = max(len(ids) for _, ids in items)
    text = torch.zeros(len(items), longest, dtype=torch.int64)
    for row, (_, ids) in enumerate(items):
        text[row, : len(ids)] = torch.tensor(ids)
    return torch.stack([features for features, _ in items]), text


def rate(batches: Callable[[], Iterator[int]], passes: int) -> float:
    """Samples a second: the median over passes, after one that warms up."""
    rates = []
    for turn in range(passes + 1):
        start = time.perf_counter()
        samples = sum(batches())
        if turn:
            rates.append(samples / (time.perf_counter() - start))
    return statistics.median(rates)


def measure(root: Path, options: argparse.Namespace) -> list[Row]:
    """Rows for the ways of loading."""
    features = np.load(root / "train_ims.npy", mmap_mode="r", allow_pickle=False)
    target = np.empty((options.batch, *features.shape[1:]), np.float32)

    def copies() -> Iterator[int]:
        for _ in range(CAPTIONS_AN_IMAGE):
            for image in range(len(features)):
                target[image % options.batch] = features[image]
                yield 1

    floor = rate(copies, options.passes)
    rows = []
    for workers in options.workers:
        for augmentation in (None, SizeAugmentation()):
            data = MatchingData(
                PrecompFolder(root), batch_size=options.batch, num_workers=workers, augmentation=augmentation
            )
            data.setup("fit")
            loader = data.train_dataloader()
            ours = rate(lambda loader=loader: (len(batch.captions) for batch in loader), options.passes)
            label = f"library{', augmented' if augmentation else ''}"
            rows.append({"work": label, "workers": workers, "rate": ours, "floor": floor})
        options_of_loader = {"num_workers": workers, "persistent_workers": workers > 0, "shuffle": True}
        plain = DataLoader(Textbook(root), options.batch, collate_fn=stack, **options_of_loader)
        textbook = rate(lambda loader=plain: (len(text) for _, text in loader), options.passes)
        rows.append({"work": "textbook", "workers": workers, "rate": textbook, "floor": floor})
    return rows


def main() -> None:
    """Measure the rows and print them."""
    parser = argparse.ArgumentParser(description="Samples a second of loading training batches.")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    parser.add_argument("--features", type=int, default=2048, help="size of the region features")
    parser.add_argument("--batch", type=int, default=128, help="captions a batch, each with its image")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="processes that load; 0 = the main one")
    parser.add_argument("--passes", type=int, default=3, help="rates are medians of so many epochs")
    parser.add_argument("--folder", type=Path, help="where the made-up features go; by default a temporary folder")
    parser.add_argument("--json", type=Path, help="file for the numbers of the table, unrounded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_folder(Path(folder), options)
        rows = measure(Path(folder), options)
    print_table(
        {
            "work": lambda row: row["work"],
            "workers": lambda row: str(row["workers"]),
            "samples/s": lambda row: f"{row['rate']:.0f}",
            "x floor": lambda row: f"{row['floor'] / row['rate']:.2f}",
        },
        rows,
    )
    print(f"floor: {rows[0]['floor']:.0f} samples/s, one thread")
    write_json(options.json, {"options": {name: str(value) for name, value in vars(options).items()}}, rows)


if __name__ == "__main__":
    main()
