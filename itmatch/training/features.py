"""Where the features of the splits lie while a run reads them."""

from __future__ import annotations

import multiprocessing
from typing import Literal

import torch
from lightning.pytorch import Trainer

from itmatch.batch import Batch
from itmatch.data import ImageTextSplit, RegionRows, ResidentRegions, SharedFeatures
from itmatch.data.resident import shape_of
from itmatch.data.room import check_room
from itmatch.ops.checks import check_choice

Place = Literal["map", "memory", "device"]


class FeaturePlace:
    """Brings features to where they are to lie, and has batches find them there.

    Args:
        place: ``"map"`` leaves them where the source has them; ``"memory"`` and ``"device"`` read those of a split
            once, into host memory or onto the device of the process.
    """

    def __init__(self, place: Place) -> None:
        self.place: Place = check_choice("features", place, "map", "memory", "device")
        self._held: dict[str, ResidentRegions] = {}
        self._in_memory: set[str] = set()

    def bring(self, stage: str, split: ImageTextSplit, trainer: Trainer | None, workers: int) -> None:
        """Bring the features of a split where they are to lie, once.

        Args:
            stage: "train", "val" or "test".
            split: of the stage.
            trainer: knows the device; without one, the first batch says it.
            workers: processes that load.

        Raises:
            ValueError: they do not fit, do not lie in one array, or hold a NaN or an infinity.
        """
        if self.place == "device" and trainer is not None:
            self._on_device(stage, split, trainer.strategy.root_device)
        elif self.place == "memory" and stage not in self._in_memory:
            shared = workers > 0 and multiprocessing.get_start_method() != "fork"  # a fork has what its parent has
            held = self._read(split, torch.device("cpu"), shared=shared)
            split.features = SharedFeatures(held.features, name=split.name)  # the same numbers in another place
            self._in_memory.add(stage)

    def resident(self, stage: str) -> str | None:
        """What batches of a stage call the place of their features; None = they carry them."""
        return stage if self.place == "device" else None

    def sent(self, batch: Batch, splits: dict[str, ImageTextSplit], device: torch.device) -> Batch:
        """A batch on a device, with its features.

        Raises:
            ValueError: the features lie on another device.
        """
        moved = batch.to(device, non_blocking=True)
        if isinstance(moved.regions, RegionRows):
            stage = moved.regions.resident
            held = self._on_device(stage, splits[stage], moved.regions.rows.device)
            if held.features.device != moved.regions.rows.device:
                raise ValueError(f"features: those of {stage} are on {held.features.device}, a batch goes to {device}")
            moved.regions = held.regions(moved.regions)
        return moved

    def _on_device(self, stage: str, split: ImageTextSplit, device: torch.device) -> ResidentRegions:
        if stage not in self._held:
            self._held[stage] = self._read(split, device)
        return self._held[stage]

    def _read(self, split: ImageTextSplit, device: torch.device, *, shared: bool = False) -> ResidentRegions:
        try:
            check_room(split.name, *shape_of(split), device, shared=shared)
            return ResidentRegions(split, device, shared=shared)
        except ValueError as error:
            raise ValueError(f"features: {self.place}: {error}; map reads them from where they are") from None
