"""Loading training batches: samples a second from a file of float16 features that the system holds in memory.

    python examples/benchmarks/loading.py

Writes a folder of made-up features (36 x 2048 float16 an image), boxes and relations for the time of the run. The
textbook reads the features into memory in float32, copies an image for every caption, and stacks; it has neither boxes
nor relations nor an augmentation. docs/benchmarks.md says how to read the table.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import megabytes, print_table, trim, wait, write_json
from torch.utils.data import DataLoader, Dataset

from itmatch.data import PrecompFolder, SizeAugmentation
from itmatch.training import MatchingData

CAPTIONS_AN_IMAGE = 5
WORDS = ("a", "dog", "cat", "man", "child", "on", "in", "with", "red", "blue", "ball", "street", "two", "people")
WORK = ("plain", "augmented", "boxes and relations", "boxes and relations, augmented")
PLACES = ("map", "memory", "device")
Row = dict[str, Any]


def write_folder(root: Path, options: argparse.Namespace) -> None:
    """The training split, and two images for each of the others."""
    rng = np.random.default_rng(0)
    regions = options.regions
    for split, images in (("train", options.images), ("dev", 2), ("test", 2)):
        shape = (images, options.regions, options.features)
        features = np.lib.format.open_memmap(root / f"{split}_ims.npy", "w+", np.float16, shape)
        for image in features:
            image[:] = rng.standard_normal(shape[1:], dtype=np.float32)
        features.flush()
        boxes = np.sort(rng.random((images, regions, 2, 2), dtype=np.float32), axis=2)  # low corners first
        np.save(root / f"{split}_boxes.npy", boxes.reshape(images, regions, 4))
        np.save(root / f"{split}_relations.npy", rng.integers(0, regions, (images, regions, 3)))
        np.save(root / f"{split}_relation_scores.npy", rng.random((images, regions), dtype=np.float32))
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


class Loading:
    """One way of loading, and what was measured of it.

    Args:
        work: the batches.
        features: where the library has them; "-" for the textbook.
        workers: processes that load.
        make: a function of no arguments that gives the batches of an epoch, as numbers of their samples.
    """

    def __init__(self, work: str, features: str, workers: int, make: Callable[[], Callable[[], Iterator[int]]]) -> None:
        self.row: Row = {"work": work, "features": features, "workers": workers, "rates": []}
        before = own_bytes()
        self.epoch = make()
        sum(self.epoch())  # what is made once; and workers are there
        self.row["bytes"] = None if before is None else own_bytes() - before

    def run(self) -> None:
        """Measure an epoch."""
        start = time.perf_counter()
        samples = sum(self.epoch())
        self.row["rates"].append(samples / (time.perf_counter() - start))


def own_bytes() -> int | None:
    """Memory that this process and those that it started hold, without pages of files; Linux only."""
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    gc.collect()
    trim()
    me = os.getpid()
    return sum(_own(process) for process in (me, *_children(me)))


def _children(process: int) -> list[int]:
    threads = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def _own(process: int) -> int:
    """Bytes of anonymous and shared memory, in which each of the processes that share a page counts its part."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines[1:] if ":" in line}
    return sizes["Pss_Anon"] + sizes["Pss_Shmem"]


def library(root: Path, options: argparse.Namespace, work: str, features: str, workers: int) -> Callable[[], Any]:
    """Batches of the library, on the device."""
    named = {} if "boxes" in work else {"boxes": None, "relations": None}
    augmentation = SizeAugmentation() if "augmented" in work else None
    device = torch.device(options.device)

    def make() -> Callable[[], Iterator[int]]:
        data = MatchingData(
            PrecompFolder(root, **named),
            batch_size=options.batch,
            num_workers=workers,
            augmentation=augmentation,
            features=features,
        )
        data.setup("fit")
        loader = data.train_dataloader()

        def epoch() -> Iterator[int]:
            for batch in loader:
                yield len(data.transfer_batch_to_device(batch, device, 0).captions)
            wait(device)

        return epoch

    return make


def textbook(root: Path, options: argparse.Namespace, workers: int) -> Callable[[], Any]:
    """Batches of the textbook, on the device."""
    device = torch.device(options.device)
    pin = device.type == "cuda"

    def make() -> Callable[[], Iterator[int]]:
        several = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": pin, "shuffle": True}
        loader = DataLoader(Textbook(root), options.batch, collate_fn=stack, **several)

        def epoch() -> Iterator[int]:
            for features, text in loader:
                features.to(device, non_blocking=True), text.to(device, non_blocking=True)
                yield len(text)
            wait(device)

        return epoch

    return make


def measure(root: Path, options: argparse.Namespace) -> list[Row]:
    """Rows for the ways of loading, which take turns; a ratio is of two that ran one after the other."""
    rows = []
    for workers in options.workers:
        ways = [Loading("textbook", "-", workers, textbook(root, options, workers))]
        for work in WORK:
            for features in options.places:
                ways.append(Loading(work, features, workers, library(root, options, work, features, workers)))
        for _ in range(options.passes):
            for way in ways:
                way.run()
        plain, *_ = (way.row for way in ways)
        for way in ways:
            ratios = [rate / other for rate, other in zip(way.row["rates"], plain["rates"], strict=True)]
            way.row["ratio"], way.row["rate"] = statistics.median(ratios), statistics.median(way.row["rates"])
            rows.append(way.row)
        print(f"{workers} workers measured; load {load()}", flush=True)
    return rows


def load() -> str:
    """How busy the machine is: processes that run or wait for a processor, in the last 1, 5 and 15 minutes."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "-"


def main() -> None:
    """Measure the rows and print them."""
    parser = argparse.ArgumentParser(description="Samples a second of loading training batches.")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    parser.add_argument("--features", type=int, default=2048, help="size of the region features")
    parser.add_argument("--batch", type=int, default=128, help="captions a batch, each with its image")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="processes that load; 0 = the main one")
    parser.add_argument("--passes", type=int, default=5, help="numbers are medians of so many epochs")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=PLACES, help="where the library has features")
    parser.add_argument("--device", default="cpu", help="where batches go: cpu, cuda, ...")
    parser.add_argument("--folder", type=Path, help="where the made-up features go; by default a temporary folder")
    parser.add_argument("--json", type=Path, help="file for the numbers of the table, unrounded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}, one thread; load {load()}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_folder(Path(folder), options)
        rows = measure(Path(folder), options)
    print_table(
        {
            "work": lambda row: row["work"],
            "features": lambda row: row["features"],
            "workers": lambda row: str(row["workers"]),
            "samples/s": lambda row: f"{row['rate']:.0f}",
            "x textbook": lambda row: f"{row['ratio']:.2f}",
            "MB": lambda row: megabytes(row["bytes"]),
        },
        rows,
    )
    write_json(options.json, {"options": {name: str(value) for name, value in vars(options).items()}}, rows)


if __name__ == "__main__":
    main()
