"""How often a training step waits for the device, and where.

    python examples/benchmarks/waits.py
    python examples/benchmarks/waits.py --device cuda

Trains every system for some steps of a small set with Lightning, logging now and then, and counts the waits of each
step after the first two, from the loading of its batch to the update of the weights. Without a GPU the device is that
of twin.py, which lies in host memory and notes who would wait for it; with ``--device cuda`` it is the GPU, and PyTorch
tells (``torch.cuda.set_sync_debug_mode``). docs/benchmarks.md says more.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import twin
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from measure import print_table, write_json
from steps import systems

from itmatch.data import RelationScenes
from itmatch.losses import HardNegativeTripletLoss
from itmatch.training import MatchingData, MatchingTask

WARM_UP = 2  # steps: the first makes what is made once, the second reads what was noted of the first
Found = Counter[tuple[str, str]]
Row = dict[str, Any]


class TwinAccelerator(Accelerator):
    """Lightning's view of the device of twin.py."""

    def setup_device(self, device: torch.device) -> None:
        """Nothing to set up."""

    def teardown(self) -> None:
        """Nothing to take down."""

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        """As they are."""
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """The one."""
        return [twin.device()]

    @staticmethod
    def auto_device_count() -> int:
        """One."""
        return 1

    @staticmethod
    def is_available() -> bool:
        """Always."""
        return True

    @staticmethod
    def name() -> str:
        """That of the device."""
        return twin.NAME


class Steps(Callback):
    """What each step has added to the count, and whether it was logged."""

    def __init__(self, found: Found, log_every: int) -> None:
        self.found, self.log_every, self.before = found, log_every, Counter[tuple[str, str]]()
        self.steps: list[tuple[bool, Found]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Between the ends of two steps everything is counted: loading, moving, computing, logging."""
        self.steps.append((trainer.global_step % self.log_every == 0, self.found - self.before))
        self.before = self.found.copy()


@contextmanager
def cuda_waits() -> Iterator[Found]:
    """As ``twin.waits``, by PyTorch's own account of CUDA."""
    found: Found = Counter()

    def show(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            found["wait", f"{'/'.join(Path(filename).parts[-3:])}:{lineno}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


def measure(name: str, options: argparse.Namespace) -> Row:
    """Count the waits of one system."""
    seed_everything(0, verbose=False)
    source = RelationScenes("easy", num_train=4 * options.batch, num_val=2, num_test=2, captions_per_image=4)
    data = MatchingData(source, batch_size=options.batch)
    sizes = {"region_dim": data.feature_dim, "embed_dim": 16, "word_dim": 8}
    model = systems(sizes, data.vocabulary, len(RelationScenes.predicates))[name]()
    task = MatchingTask.from_model(model, objective=HardNegativeTripletLoss(margin=0.05))
    on_gpu = options.device != twin.NAME
    with (cuda_waits if on_gpu else twin.waits)() as found:
        steps = Steps(found, options.log_every)
        place: dict[str, Any] = {"accelerator": "cuda", "devices": 1}
        if not on_gpu:
            place = {"strategy": SingleDeviceStrategy(twin.device(), accelerator=TwinAccelerator())}
        trainer = Trainer(
            **place,
            max_steps=WARM_UP + options.steps,
            max_epochs=-1,
            gradient_clip_val=2.0,
            callbacks=[steps],
            logger=False,
            log_every_n_steps=options.log_every,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, data)
    plain = [counted for logged, counted in steps.steps[WARM_UP:] if not logged]
    logged = [counted for logged, counted in steps.steps[WARM_UP:] if logged]
    most = max(plain, key=lambda counted: counted.total())
    return {
        "work": name,
        "most": most.total(),
        "mean": sum(counted.total() for counted in plain) / len(plain),
        "logged": max((counted.total() for counted in logged), default=None),
        "where": [f"{times} x {kind}: {line}" for (kind, line), times in sorted(most.items())],
    }


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description="Waits of a training step for the device.")
    parser.add_argument("--device", default=twin.NAME, choices=[twin.NAME, "cuda"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="steps that are counted")
    parser.add_argument("--log-every", type=int, default=5, help="steps from one that is logged to the next")
    parser.add_argument("--only", nargs="+", help="only these systems")
    parser.add_argument("--where", action="store_true", help="say where the step with the most waits has waited")
    parser.add_argument("--json", type=Path, help="file for the numbers of the table")
    options = parser.parse_args()
    rows = [measure(name, options) for name in options.only or systems({})]
    print_table(
        {
            "system": lambda row: row["work"],
            "waits a step, at most": lambda row: str(row["most"]),
            "on average": lambda row: f"{row['mean']:.1f}",
            "a step that is logged": lambda row: "-" if row["logged"] is None else str(row["logged"]),
        },
        rows,
    )
    if options.where:
        for row in rows:
            print(f"\n{row['work']}", *row["where"], sep="\n  ")
    write_json(options.json, {"device": options.device}, rows)


if __name__ == "__main__":
    main()
