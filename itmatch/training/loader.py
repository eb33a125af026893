"""A training loader whose order and augmentation depend on seed and epoch alone, and that can begin in mid-epoch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler, Subset

from itmatch.batch import Batch
from itmatch.data import CaptionDataset, Collator, ImageDataset, ImageTextSplit, PairDataset
from itmatch.data.batching.collate import Pair
from itmatch.data.batching.views import Chosen
from itmatch.ops.collectives import rank, world_size
from itmatch.ops.seeding import mix_seed
from itmatch.training.limits import captions_of_first


class EpochSampler(DistributedSampler[int], SequentialSampler):
    """This process's share of a shuffled epoch; yields (epoch, index), so that workers know the epoch.

    Being a DistributedSampler, it is left alone by Lightning, which would wrap any other; being a SequentialSampler in
    name, also by its ``overfit_batches``, which would replace any other.

    Args:
        size: items in the dataset.
        seed: of the shuffling.
        repeat: every epoch is the first again: the same order, and the same augmentation.
    """

    def __init__(self, size: int, seed: int, *, repeat: bool = False) -> None:
        super().__init__(range(size), num_replicas=world_size(), rank=rank(), shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.skip = 0  # items of the next pass that were already used before a restart
        self.repeat = repeat

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        super().set_epoch(0 if self.repeat else epoch)

    def __iter__(self) -> Iterator[Any]:
        """The items of this epoch that are still to come."""
        skip, self.skip = self.skip, 0
        return ((self.epoch, index) for index in self.share()[skip:])

    def share(self) -> list[int]:
        """All items of this process in this epoch, in their order."""
        return list(super().__iter__())


class TwinSampler(EpochSampler):
    """A shuffled epoch of units of two captions: one of an image, one of the image that shows the twin scene.

    Within a twin pair of images the captions are matched at random, anew each epoch. Captions that are left over, which
    have no twin or whose twin image has fewer captions, are put together two by two, at random. So an even batch size
    never cuts a unit, and each caption comes once an epoch; if their number is odd, the last unit is of one caption. An
    odd batch size cuts a unit at every other boundary of batches.

    Several processes share out the units. Where they do not divide evenly some come twice, as ``DistributedSampler``
    repeats items, and a last unit of one caption is filled up with the first caption of the epoch.

    Args:
        image: (T,) int, the image of each caption.
        twin: (T,) int, the image that shows the twin scene of the caption's, -1 = none.
        seed: of the shuffling.
        repeat: every epoch is the first again.

    Example:
        >>> sampler = TwinSampler(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0]), seed=0)
        >>> [index for _, index in sampler]
        [0, 2, 1, 3]
    """

    def __init__(self, image: Tensor, twin: Tensor, seed: int, *, repeat: bool = False) -> None:
        super().__init__(len(image), seed, repeat=repeat)
        self.image, self.twin = image, twin
        if self.num_replicas > 1:
            units = -(-len(image) // 2)
            self.num_samples = 2 * -(-units // self.num_replicas)
            self.total_size = self.num_samples * self.num_replicas

    def share(self) -> list[int]:
        """All items of this process in this epoch, in their order."""
        generator = torch.Generator().manual_seed(mix_seed(self.seed, self.epoch))
        order = twin_order(self.image, self.twin, generator)
        if self.num_replicas == 1:
            return order.tolist()
        if len(order) % 2:
            order = torch.cat([order, order[:1]])
        units = order.view(-1, 2)
        padded = torch.arange(self.total_size // 2) % len(units)
        return units[padded][self.rank :: self.num_replicas].flatten().tolist()


def twin_order(image: Tensor, twin: Tensor, generator: torch.Generator) -> Tensor:
    """(T,) a random order of the captions in which those at places 2 k and 2 k + 1 are twins, where they can be.

    Args:
        image: (T,) int, the image of each caption.
        twin: (T,) int, the image that shows the twin scene of the caption's, -1 = none.
        generator: of the random numbers.
    """
    order = torch.randperm(len(image), generator=generator)
    own, other = image[order], twin[order]
    low, high = torch.minimum(own, other), torch.maximum(own, other)
    pair_of_images = low * (int(high.max()) + 1) + high
    scenes = torch.unique(pair_of_images, return_inverse=True)[1]  # numbered from 0
    place = _places(2 * scenes + (own > other))  # the k-th caption of one image meets the k-th of the other
    _, unit, size = torch.unique(scenes * len(order) + place, return_inverse=True, return_counts=True)
    alone = size[unit] == 1
    order_of_alone = order[alone]
    pairs = order[~alone][unit[~alone].argsort(stable=True)].view(-1, 2)
    even = len(order_of_alone) // 2 * 2
    units = torch.cat([pairs, order_of_alone[:even].view(-1, 2)])
    units = units[torch.randperm(len(units), generator=generator)]
    return torch.cat([units.flatten(), order_of_alone[even:]])


def _places(groups: Tensor) -> Tensor:
    """(T,) how many of the same group stand before each element."""
    by_group = groups.argsort(stable=True)
    counts = torch.bincount(groups)
    starts = counts.cumsum(0) - counts
    places = torch.empty_like(by_group)
    places[by_group] = torch.arange(len(groups)) - starts[groups[by_group]]
    return places


class EpochItems(Dataset[Any]):
    """The pairs of a batch, passed on with the epoch that they are asked for in."""

    def __init__(self, pairs: PairDataset) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[int, Chosen[Pair]]:
        """The epoch, and the pairs: nothing of them is read before they are put together."""
        return keys[0][0], self.pairs.__getitems__([index for _, index in keys])


def evaluation_loaders(
    dataset: ImageTextSplit, images: int, collator: Collator, **kwargs: Any
) -> list[DataLoader[Any]]:
    """Batches of the first images of a split, each once, then batches of their captions.

    Args:
        dataset: the split.
        images: how many.
        collator: makes the batches.
        kwargs: other arguments of ``torch.utils.data.DataLoader``.
    """
    parts: list[Dataset[Any]] = [ImageDataset(dataset), CaptionDataset(dataset)]
    if images < dataset.num_images:
        parts = [Subset(parts[0], range(images)), Subset(parts[1], captions_of_first(dataset, images))]
    return [DataLoader(part, collate_fn=collator, **kwargs) for part in parts]


def reserve_file_handles(workers: int) -> None:
    """See that the processes that load data can hand over their tensors, each of which takes a file handle on the way.

    Where there are too few, a process loses a batch, and the main one waits for it for ever.

    Args:
        workers: processes that load data.

    Raises:
        OSError: there are too few, and no more to be had.
    """
    if not workers or importlib.util.find_spec("resource") is None:  # Windows, which has no such limit
        return
    import resource

    least, enough = 32 + 24 * workers, 256 + 64 * workers  # as measured, and with room to spare
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < enough:
        soft = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < least:
            raise OSError(
                f"num_workers: {workers} processes that load data need {least} file handles, and {soft} are allowed: "
                "raise the limit (ulimit -n), or take fewer"
            )


class TrainLoader(DataLoader[Any]):
    """DataLoader over the pairs of a split, with the two methods by which Lightning saves and restores its place.

    Args:
        dataset: the split.
        collator: makes batches of pairs.
        seed: of the shuffling and the augmentation.
        keep_twins: order the captions as :class:`TwinSampler` does.
        repeat: every epoch has the batches of the first.
        limit: how many batches of an epoch are asked for, or which share of them: Lightning's ``limit_train_batches``.
        kwargs: other arguments of ``torch.utils.data.DataLoader``.
    """

    def __init__(
        self,
        dataset: ImageTextSplit,
        collator: Collator,
        seed: int,
        *,
        keep_twins: bool = False,
        repeat: bool = False,
        limit: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self._yielded = 0
        self._resume_at = 0
        self.limit = limit
        sampler = EpochSampler(dataset.num_captions, seed, repeat=repeat)
        if keep_twins:
            sampler = TwinSampler(*_twins(dataset), seed, repeat=repeat)
        super().__init__(
            EpochItems(PairDataset(dataset)),
            sampler=sampler,
            collate_fn=partial(collator.of_epoch, seed),
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
        used = self.limit if isinstance(self.limit, int) else int(self.limit * len(self))
        batches = self._yielded % max(1, min(used, len(self)))
        return {"batches": batches, "batch_size": size, "processes": processes}

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


def _twins(dataset: ImageTextSplit) -> tuple[Tensor, Tensor]:
    if dataset.caption_twin is None or not (dataset.caption_twin >= 0).any():
        found = "no caption_twin" if dataset.caption_twin is None else "a caption_twin that is -1 for all captions"
        raise ValueError(
            f"keep_twins: {dataset.name} has {found}; expected the image that shows the twin scene of each caption's"
        )
    return torch.from_numpy(dataset.caption_image), torch.from_numpy(dataset.caption_twin)
