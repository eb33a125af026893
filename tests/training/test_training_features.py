"""Where features lie changes nothing but where they lie: the device of these tests is the CPU."""

import numpy as np
import pytest
import torch
from helpers_training import small_task, small_trainer
from lightning.pytorch import seed_everything

from itmatch.batch import Batch
from itmatch.data import FeatureStore, ImageTextSplit, RegionRows, RelationScenes, SharedFeatures, SizeAugmentation
from itmatch.training import MatchingData

CPU = torch.device("cpu")
PLACES = ["map", "memory", "device"]


class Halves(RelationScenes):
    """Scenes whose features are float16, as on most disks; some images are of fewer regions than others."""

    def split(self, stage):
        split = super().split(stage)
        split.features._array = split.features._array.astype(np.float16)
        return split


def data_of(features, **kwargs):
    source = Halves("easy", num_train=16, num_val=8, num_test=8)
    return MatchingData(source, batch_size=16, features=features, augmentation=SizeAugmentation(), **kwargs)


def batches(features, **kwargs):
    seed_everything(3, verbose=False)
    data = data_of(features, **kwargs)
    data.setup("fit")
    loaders = [data.train_dataloader(), *data.val_dataloader()]
    return data, [batch for loader in loaders for batch in loader]


@pytest.mark.parametrize(("features", "workers"), [("memory", 0), ("memory", 1), ("device", 0), ("device", 1)])
def test_batches_are_the_same_wherever_features_lie(features, workers):
    expected = [batch.to("cpu") for batch in batches("map")[1]]
    data, found = batches(features, num_workers=workers)
    assert isinstance(data.dataset("train").features, SharedFeatures) == (features == "memory")
    assert len(found) == len(expected) > 6
    for batch, other in zip(found, expected, strict=True):
        if features == "device" and batch.regions is not None:
            assert isinstance(batch.regions, RegionRows)
            assert batch.regions.features.numel() == 0
            assert batch.regions.boxes is None
        sent = data.transfer_batch_to_device(batch, CPU, 0)
        assert (sent.regions is None) == (other.regions is None)
        assert (sent.captions is None) == (other.captions is None)
        if other.captions is not None:
            assert torch.equal(sent.captions.input_ids, other.captions.input_ids)
        if other.regions is not None:
            assert sent.regions.features.dtype == torch.float16
            for name in ("features", "mask", "boxes"):
                assert torch.equal(getattr(sent.regions, name), getattr(other.regions, name))
            assert torch.equal(sent.regions.graph.edge_index, other.regions.graph.edge_index)
            Batch(sent.regions, None, sent.image_index)  # checks itself


def test_a_run_is_the_same_wherever_features_lie(tmp_path):
    found = []
    for features in PLACES:
        seed_everything(0, verbose=False)
        data = data_of(features)
        task = small_task(data)
        trainer = small_trainer(tmp_path)
        trainer.fit(task, data)
        trainer.test(task, data, verbose=False)
        found.append((trainer.callback_metrics["test/rsum"], *task.model.parameters()))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_features_are_read_once(monkeypatch):
    for features in ("memory", "device"):
        data = data_of(features)
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        data.transfer_batch_to_device(batch, CPU, 0)
        with monkeypatch.context() as patch:
            patch.setattr("itmatch.training.features.ResidentRegions", None)
            data.setup("fit")
            data.transfer_batch_to_device(batch, CPU, 0)


def test_what_does_not_fit_is_told_before_it_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr("itmatch.data.room.free_bytes", lambda device, *, shared: 100)
    told = r"features: {}: RelationScenes train: 16 x 5 x 64 numbers of float16 need 10240 bytes .*and 100 .*; map"
    data = data_of("memory")
    with pytest.raises(ValueError, match=told.format("memory")):
        data.setup("fit")
    data = data_of("device")
    task = small_task(data)
    with pytest.raises(ValueError, match=told.format("device")):
        small_trainer(tmp_path).fit(task, data)


class OneByOne(FeatureStore):
    feature_dim, num_regions = 8, None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.ones((index + 1, 8), np.float32)


class Single(RelationScenes):
    def split(self, stage):
        return ImageTextSplit(OneByOne(), ["a dog"] * 4, np.arange(4), name="toy")


def test_sources_that_are_no_arrays_are_refused():
    data = MatchingData(Single(), features="memory")
    with pytest.raises(ValueError, match=r"features: memory: toy: features are read image by image \(OneByOne\)"):
        data.setup("fit")
    MatchingData(Single()).setup("fit")


def test_wrong_words_are_refused():
    with pytest.raises(ValueError, match="features"):
        data_of("disk")


def test_a_batch_for_another_device_is_refused():
    data = data_of("device")
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    data.transfer_batch_to_device(batch, CPU, 0)
    with pytest.raises(ValueError, match="those of train are on cpu, a batch goes to meta"):
        data.transfer_batch_to_device(batch, torch.device("meta"), 0)


def test_an_encoder_tells_of_features_that_were_not_gathered():
    data = data_of("device")
    data.setup("fit")
    task = small_task(data)
    with pytest.raises(ValueError, match="features of size 0, expected"):
        task.model.image_encoder(next(iter(data.train_dataloader())).regions)


def test_processes_that_are_not_forked_share_the_memory(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    data = data_of("memory", num_workers=2)
    data.setup("fit")
    assert data.dataset("train").features._tensor.is_shared()
