import numpy as np
import pytest
import torch

from itmatch.data import Collator, ImageTextDataset, SizeAugmentation, WordTokenizer
from itmatch.training.loader import EpochSampler, TrainLoader


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    captions = [f"photo number {i} of something" for i in range(22)]
    return ImageTextDataset(rng.standard_normal((11, 6, 4)).astype(np.float32), captions, np.arange(22) // 2)


def loader(dataset, seed=3, **kwargs):
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(dataset.captions)
    collator = Collator(tokenizer, augmentation=SizeAugmentation())
    return TrainLoader(dataset, collator, seed, batch_size=4, **kwargs)


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return list(loader)


def same(a, b):
    return (
        torch.equal(a.caption_index, b.caption_index)
        and torch.equal(a.regions.mask, b.regions.mask)
        and torch.equal(a.regions.features, b.regions.features)
        and torch.equal(a.captions.input_ids, b.captions.input_ids)
    )


def test_an_epoch_has_every_caption_once_in_an_order_of_its_own(dataset):
    loaded = loader(dataset)
    orders = [torch.cat([b.caption_index for b in epoch(loaded, n)]) for n in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(22)) for order in orders)
    assert not torch.equal(*orders)


def test_order_and_augmentation_depend_on_seed_and_epoch_alone(dataset):
    first = epoch(loader(dataset), 1)
    torch.rand(17)
    other = loader(dataset)
    epoch(other, 0)
    assert all(same(a, b) for a, b in zip(first, epoch(other, 1), strict=True))
    assert not all(same(a, b) for a, b in zip(first, epoch(loader(dataset, seed=4), 1), strict=True))


def test_workers_change_nothing(dataset):
    torch.manual_seed(0)
    alone = epoch(loader(dataset), 2)
    torch.manual_seed(1)
    with_worker = epoch(loader(dataset, num_workers=1, persistent_workers=True), 2)
    assert all(same(a, b) for a, b in zip(alone, with_worker, strict=True))


def test_loading_leaves_the_models_random_numbers_alone(dataset):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    epoch(loader(dataset), 0)
    assert torch.equal(expected, torch.rand(3))


def test_resuming_in_mid_epoch_gives_the_rest_and_then_whole_epochs(dataset):
    whole = epoch(loader(dataset), 1)
    interrupted = loader(dataset)
    interrupted.sampler.set_epoch(1)
    batches = iter(interrupted)
    next(batches), next(batches)
    state = interrupted.state_dict()
    assert state == {"batches": 2, "batch_size": 4, "processes": 1}
    resumed = loader(dataset)
    resumed.load_state_dict(state)
    rest = epoch(resumed, 1)
    assert len(rest) == 4
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))
    assert len(epoch(resumed, 2)) == 6


def test_the_state_after_an_epoch_is_that_of_a_beginning(dataset):
    loaded = loader(dataset)
    epoch(loaded, 0)
    assert loaded.state_dict()["batches"] == 0


@pytest.mark.parametrize(
    ("name", "message"), [("batch_size", "batch_size 4; it had 8"), ("processes", "processes 1; it")]
)
def test_another_batch_size_cannot_resume_in_mid_epoch(dataset, name, message):
    state = loader(dataset).state_dict() | {"batches": 2}
    state[name] = 8
    with pytest.raises(ValueError, match=message):
        loader(dataset).load_state_dict(state)
    loader(dataset).load_state_dict(state | {"batches": 0})  # at the beginning of an epoch there is nothing to skip


def test_processes_share_an_epoch(monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setattr("itmatch.training.loader.world_size", lambda: 3)
        monkeypatch.setattr("itmatch.training.loader.rank", lambda rank=rank: rank)
        shares.append([index for _, index in EpochSampler(10, seed=0)])
    assert [len(share) for share in shares] == [4, 4, 4]
    assert set().union(*shares) == set(range(10))
