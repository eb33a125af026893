"""Extracting regions: photos a second, memory and bytes a photo, by one process, by several, and by Ray Data.

    python examples/benchmarks/extracting.py
    python examples/benchmarks/extracting.py PHOTOS --detector ustc-community/dfine-small-obj365 --ray 1 2

Without PHOTOS it draws some; without --detector and --backbone it makes an RT-DETR with random weights that is far
smaller than a real one, so that reading and preparing photos takes most of the time. Photos a second are those of the
whole commands, from the start of Python to the files; in brackets without the start. Each process has one thread.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import megabytes, print_table, write_json

Row = dict[str, Any]
SIDE = (320, 240)  # of a photo that is drawn


def draw_photos(folder: Path, count: int) -> Path:
    """Photos of coarse noise."""
    from PIL import Image

    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(SIDE).save(folder / f"{number:05d}.jpg")
    return folder


def save_detector(folder: Path) -> str:
    """A small RT-DETR with random weights, and its processor; returns its path."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_hidden_dim": 16, "num_queries": 100, "decoder_layers": 2, "num_labels": 5}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"]
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[8, 16, 16], decoder_in_channels=[16] * 3, **sizes
    )
    transformers.RTDetrForObjectDetection(config).save_pretrained(folder)
    transformers.RTDetrImageProcessorPil(size={"height": 320, "width": 320}).save_pretrained(folder)
    return str(folder)


def run_together(commands: Sequence[Sequence[str]]) -> tuple[float, int, list[str]]:
    """Run commands at once: seconds until all have ended, the largest memory of one in bytes, and what each said."""
    threads = {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    start = time.perf_counter()
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    running = [subprocess.Popen(command, env={**os.environ, **threads}, **pipes) for command in commands]
    said = [process.communicate()[1] for process in running]
    taken = time.perf_counter() - start
    for process, text in zip(running, said, strict=True):
        if process.returncode:
            raise SystemExit(text)
    return taken, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, said


def by_command(photos: Path, out: Path, models: Sequence[str], processes: int) -> Row:
    """`itmatch extract` by several processes, and the last call that puts their parts together."""
    begin = [sys.executable, "-m", "itmatch", "extract", str(photos)]
    command = [*begin, "--out", str(out), "--device", "cpu", "--part-size", "16", *models]
    shards = [[*command, "--shard", f"{number + 1}/{processes}"] for number in range(processes)]
    taken, memory, said = run_together(shards if processes > 1 else [command])
    more = run_together([command])[0] if processes > 1 else 0.0
    files = [path for path in out.iterdir() if path.is_file()]
    count = len(np.load(out / "photos_ims.npy", mmap_mode="r"))
    return {
        "way": "itmatch extract",
        "processes": processes,
        "rate": count / (taken + more),
        "within": sum(float(found[-1]) for text in said if (found := re.findall(r"([\d.]+) photos per second", text))),
        "memory": memory,
        "bytes": sum(path.stat().st_size for path in files) / count,
    }


class Extract:
    """A step of Ray Data."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from itmatch.vision import RegionExtractor

        self.extractor = RegionExtractor(**settings, device="cpu")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Regions of a batch of paths."""
        found = self.extractor([str(path) for path in batch["path"]])
        columns = {"features": found.features, "boxes": found.boxes, "mask": found.mask}
        return {"path": batch["path"], **{name: column.numpy() for name, column in columns.items()}}


def by_ray(photos: Path, out: Path, settings: dict[str, Any], workers: int) -> Row:
    """Ray Data with so many workers, from its start to the files."""
    import ray

    from itmatch.vision.photos import find_photos

    start = time.perf_counter()
    ray.init(num_cpus=workers + 1, logging_level="error", runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}})
    paths = ray.data.from_items([{"path": photo.path} for photo in find_photos(photos)])
    options = {"fn_constructor_args": [settings], "batch_size": 8, "concurrency": workers}
    paths.map_batches(Extract, **options).write_parquet(str(out))
    taken = time.perf_counter() - start
    ray.shutdown()
    return {"way": "Ray Data", "processes": workers, "rate": paths.count() / taken}


def main() -> None:
    """Measure the ways and print them."""
    parser = argparse.ArgumentParser(description="Photos a second of extracting regions.")
    parser.add_argument("photos", type=Path, nargs="?", help="folder of photos; by default some are drawn")
    parser.add_argument("--count", type=int, default=200, help="photos that are drawn")
    parser.add_argument("--detector", help="name on the hub, or folder; 'none' = a grid of the backbone")
    parser.add_argument("--backbone", help="likewise")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--ray", type=int, nargs="*", default=[], help="workers of Ray Data, which must be installed")
    parser.add_argument("--json", type=Path, help="file for the numbers of the table, unrounded")
    options = parser.parse_args()
    load = [round(x, 2) for x in os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        photos = options.photos or draw_photos(root / "photos", options.count)
        detector = options.detector or (None if options.backbone else save_detector(root / "detector"))
        settings = {"detector": detector, "backbone": options.backbone}
        models = [word for name, value in settings.items() if value for word in (f"--{name}", value)]
        rows = [by_command(photos, root / f"out{count}", models, count) for count in options.processes]
        rows += [by_ray(photos, root / f"ray{count}", settings, count) for count in options.ray]
    print(f"{os.cpu_count()} processors, load {load} before and {[round(x, 2) for x in os.getloadavg()]} after\n")
    print_table(
        {
            "way": lambda row: row["way"],
            "processes": lambda row: str(row["processes"]),
            "photos/s": lambda row: f"{row['rate']:.1f}" + (f" ({row['within']:.1f})" if "within" in row else ""),
            "MB a process": lambda row: megabytes(row.get("memory")),
            "bytes a photo": lambda row: f"{row['bytes']:.0f}" if "bytes" in row else "-",
        },
        rows,
    )
    facts = {"load": load, "options": {name: str(value) for name, value in vars(options).items()}}
    write_json(options.json, facts, rows)


if __name__ == "__main__":
    main()
