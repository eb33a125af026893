import numpy as np
import pytest
import torch

from itmatch.data import Collator, ImageTextSplit, SizeAugmentation, WordTokenizer
from itmatch.training.loader import EpochSampler, TrainLoader, TwinSampler


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    captions = [f"photo number {i} of something" for i in range(22)]
    return ImageTextSplit(rng.standard_normal((11, 6, 4)).astype(np.float32), captions, np.arange(22) // 2)


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


def twin_data(pairs=6, per_image=4, **replace):
    """Images 2 k and 2 k + 1 are twins, each with as many captions; ``replace`` changes the twins of some captions."""
    image = np.arange(2 * pairs * per_image) // per_image
    twin = image ^ 1
    for caption, other in replace.pop("changes", {}).items():
        twin[caption] = other
    features = np.random.default_rng(0).standard_normal((2 * pairs, 6, 4)).astype(np.float32)
    return ImageTextSplit(features, [f"photo {i}" for i in range(len(image))], image, caption_twin=twin)


def twin_sampler(data, seed=3):
    return TwinSampler(torch.from_numpy(data.caption_image), torch.from_numpy(data.caption_twin), seed)


def order_of(sampler, number):
    sampler.set_epoch(number)
    return [index for _, index in sampler]


def units_of(order):
    return [tuple(order[i : i + 2]) for i in range(0, len(order), 2)]


def test_each_unit_is_a_caption_of_an_image_and_one_of_its_twin():
    data = twin_data()
    order = order_of(twin_sampler(data), 0)
    assert sorted(order) == list(range(data.num_captions))
    for a, b in units_of(order):
        assert data.caption_twin[a] == data.caption_image[b]
        assert data.caption_twin[b] == data.caption_image[a]


def test_units_and_their_order_are_new_in_each_epoch_and_depend_on_seed_and_epoch_alone():
    sampler = twin_sampler(twin_data())
    first, second = order_of(sampler, 0), order_of(sampler, 1)
    assert {frozenset(u) for u in units_of(first)} != {frozenset(u) for u in units_of(second)}
    torch.rand(3)
    assert order_of(twin_sampler(twin_data()), 1) == second
    assert order_of(twin_sampler(twin_data(), seed=4), 1) != second


def test_matches_within_a_pair_of_images_are_uniform():
    sampler = twin_sampler(twin_data(pairs=1, per_image=3))
    matches = [frozenset(map(frozenset, units_of(order_of(sampler, n)))) for n in range(600)]
    counts = [matches.count(m) for m in set(matches)]
    assert len(counts) == 6  # all the matchings of 3 captions with 3
    assert min(counts) > 60


def test_captions_that_are_left_over_are_put_together_and_an_odd_one_comes_last():
    data = twin_data(changes={0: -1, 1: -1, 5: -1, 9: -1, 20: -1})  # 0, 1 of image 0; 5 of image 1; 9 of 2; 20 of 5
    for number in range(4):
        order = order_of(twin_sampler(data), number)
        assert sorted(order) == list(range(48))
        other, own = data.caption_twin, data.caption_image
        twins = [(a, b) for a, b in units_of(order) if other[a] == own[b] and other[b] == own[a]]
        assert len(twins) == 2 + 3 + 3 + 12  # the smaller side of each pair of images
    short = ImageTextSplit(
        np.ones((2, 1, 4), np.float32), list("abc"), np.array([0, 0, 1]), caption_twin=np.array([1, 1, 0])
    )
    for number in range(4):
        order = order_of(twin_sampler(short), number)
        assert 2 in order[:2]
        assert sorted(order) == [0, 1, 2]


def test_a_caption_whose_image_is_named_as_its_own_twin_is_left_over():
    order = order_of(TwinSampler(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0]), seed=0), 0)
    assert sorted(order) == [0, 1, 2]


def test_batches_of_even_size_hold_both_captions_and_both_images_of_a_unit():
    data = twin_data()
    for number in (0, 1):
        batches = epoch(loader(data, keep_twins=True), number)
        assert len(batches) == 12
        for batch in batches:
            images = data.caption_image[batch.caption_index.numpy()]
            assert set(data.caption_twin[batch.caption_index.numpy()]) == set(images) == set(images ^ 1)


def test_twins_in_mid_epoch_and_with_workers():
    data = twin_data()
    whole = epoch(loader(data, keep_twins=True), 1)
    interrupted = loader(data, keep_twins=True)
    interrupted.sampler.set_epoch(1)
    batches = iter(interrupted)
    next(batches), next(batches), next(batches)
    resumed = loader(data, keep_twins=True, num_workers=1)
    resumed.load_state_dict(interrupted.state_dict())
    assert all(same(a, b) for a, b in zip(whole[3:], epoch(resumed, 1), strict=True))
    assert len(epoch(resumed, 2)) == 12


@pytest.mark.parametrize("changes", [{}, {0: -1, 1: -1, 7: -1}])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_units(monkeypatch, changes, processes):
    data, shares = twin_data(pairs=4, per_image=2, changes=changes), []
    monkeypatch.setattr("itmatch.training.loader.world_size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr("itmatch.training.loader.rank", lambda rank=rank: rank)
        sampler = twin_sampler(data)
        shares.append(order_of(sampler, 2))
        assert len(shares[-1]) == len(sampler)
    assert len({len(share) for share in shares}) == 1
    assert set().union(*shares) == set(range(16))
    if not changes:
        assert all(data.caption_twin[a] == data.caption_image[b] for s in shares for a, b in units_of(s))


def test_processes_that_share_an_odd_number_of_captions(monkeypatch):
    image, twin = torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0])
    monkeypatch.setattr("itmatch.training.loader.world_size", lambda: 4)
    shares = []
    for rank in range(4):
        monkeypatch.setattr("itmatch.training.loader.rank", lambda rank=rank: rank)
        shares.append(order_of(TwinSampler(image, twin, seed=0), 0))
    assert [len(share) for share in shares] == [2] * 4
    assert set().union(*shares) == {0, 1, 2}


@pytest.mark.parametrize(("twins", "message"), [(None, "no caption_twin"), (np.full(4, -1), "-1 for all captions")])
def test_twins_cannot_be_kept_without_twins(twins, message):
    data = ImageTextSplit(np.ones((2, 1, 4), np.float32), list("abcd"), np.arange(4) // 2, caption_twin=twins)
    with pytest.raises(ValueError, match=f"keep_twins: dataset has .*{message}"):
        loader(data, keep_twins=True)
