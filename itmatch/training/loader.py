"""A training loader whose order and augmentation depend on seed and epoch alone, and that can begin in mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from itmatch.batch import Batch
from itmatch.data import CaptionItem, Collator, ImageItem, ImageTextDataset, PairDataset
from itmatch.ops.collectives import rank, world_size
from itmatch.training.seeding import mix_seed

Pair = tuple[ImageItem, CaptionItem]


class EpochSampler(DistributedSampler[int]):
    """This process's share of a shuffled epoch; yields (epoch, index), so that workers know the epoch.

    Being a DistributedSampler, it is left alone by Lightning, which would wrap any other.

    Args:
        size: items in the dataset.
        seed: of the shuffling.
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(range(size), num_replicas=world_size(), rank=rank(), shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.skip = 0  # items of the next pass that were already used before a restart

    def __iter__(self) -> Iterator[Any]:
        """The items of this epoch that are still to come."""
        skip, self.skip = self.skip, 0
        return ((self.epoch, index) for index in list(super().__iter__())[skip:])


class EpochItems(Dataset[tuple[int, Pair]]):
    """Pairs, passed on with the epoch that they are asked for in."""

    def __init__(self, pairs: PairDataset) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, Pair]:
        epoch, index = key
        return epoch, self.pairs[index]


class EpochCollator:
    """Collates pairs; what the augmentation draws depends on seed, epoch and the batch's first caption alone."""

    def __init__(self, collator: Collator, seed: int) -> None:
        self.collator = collator
        self.seed = seed

    def __call__(self, items: list[tuple[int, Pair]]) -> Batch:
        """The batch of some pairs of one epoch."""
        epoch, (_, first) = items[0]
        generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch, first.index))
        return self.collator([pair for _, pair in items], generator=generator)


class TrainLoader(DataLoader[Any]):
    """DataLoader over the pairs of a split, with the two methods by which Lightning saves and restores its place.

    Args:
        dataset: the split.
        collator: makes batches of pairs.
        seed: of the shuffling and the augmentation.
        kwargs: other arguments of ``torch.utils.data.DataLoader``.
    """

    def __init__(self, dataset: ImageTextDataset, collator: Collator, seed: int, **kwargs: Any) -> None:
        self._yielded = 0
        self._resume_at = 0
        super().__init__(
            EpochItems(PairDataset(dataset)),
            sampler=EpochSampler(dataset.num_captions, seed),
            collate_fn=EpochCollator(collator, seed),
            generator=torch.Generator().manual_seed(mix_seed(seed)),  # else the workers' seed is drawn from the model's
            **kwargs,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches of this epoch that are still to come."""
        assert isinstance(self.sampler, EpochSampler)
        assert self.batch_size is not None
        self._yielded, self._resume_at = self._resume_at, 0
        self.sampler.skip = self._yielded * self.batch_size
        for batch in super().__iter__():
            self._yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch have been given out (0 after the last one), and of what size."""
        assert isinstance(self.sampler, EpochSampler)
        assert self.batch_size is not None
        size, processes = self.batch_size, self.sampler.num_replicas
        return {"batches": self._yielded % len(self), "batch_size": size, "processes": processes}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass after the batches that were given out before.

        Raises:
            ValueError: in mid-epoch, when batches are now of another size or shared by another number of processes.
        """
        own = self.state_dict()
        for name in ("batch_size", "processes"):
            if state["batches"] and state[name] != own[name]:
                raise ValueError(f"a run cannot be resumed in mid-epoch with {name} {own[name]}; it had {state[name]}")
        self._resume_at = state["batches"]
