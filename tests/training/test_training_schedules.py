"""Schedules that are as long as the training."""

import math

import pytest
import torch
from helpers_training import small_data, small_task, small_trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from itmatch.training import CosineSchedule, MilestoneSchedule
from itmatch.training.schedules import RunSchedule


class Rates(Callback):
    """The learning rate of every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, *_):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def sgd(groups):
    return torch.optim.SGD(groups, lr=1.0)


def rates(folder, scheduler, *, interval="epoch", resumed=None, keep=False, **trainer):
    """Learning rates of the steps of a run, of one step an epoch."""
    data = small_data()
    data.batch_size = 80
    task = small_task(data, optimizer=sgd, scheduler=scheduler, scheduler_interval=interval)
    seen = Rates()
    callbacks = [seen, *([ModelCheckpoint(folder, filename="kept", enable_version_counter=False)] if keep else [])]
    small_trainer(folder, callbacks=callbacks, enable_checkpointing=keep, **trainer).fit(task, data, ckpt_path=resumed)
    return seen.seen


def cosine(total, steps=None):
    return pytest.approx([(1 + math.cos(math.pi * t / total)) / 2 for t in steps or range(total)], abs=1e-6)


@pytest.mark.parametrize("epochs", [3, 5])
def test_a_cosine_ends_with_the_training(epochs, tmp_path):
    assert rates(tmp_path, CosineSchedule, max_epochs=epochs) == cosine(epochs)


def test_the_rates_are_exactly_those_of_torch(tmp_path):
    found = rates(tmp_path, CosineSchedule, max_epochs=6)
    assert found == rates(tmp_path, lambda optimizer: CosineAnnealingLR(optimizer, 6), max_epochs=6)
    found = rates(tmp_path, lambda optimizer: MilestoneSchedule(optimizer, [0.5]), max_epochs=6)
    assert found == rates(tmp_path, lambda optimizer: MultiStepLR(optimizer, [3]), max_epochs=6)


@pytest.mark.parametrize("end", [{"max_epochs": 4}, {"max_steps": 8}, {"max_steps": 8, "max_epochs": 9}])
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_steps_count_where_they_end_it(end, interval, tmp_path):
    data = small_data()
    data.batch_size = 40  # two batches an epoch
    seen = Rates()
    task = small_task(data, optimizer=sgd, scheduler=CosineSchedule, scheduler_interval=interval)
    small_trainer(tmp_path, callbacks=[seen], **({"max_epochs": -1} | end)).fit(task, data)
    assert seen.seen == (cosine(8) if interval == "step" else cosine(4, [0, 0, 1, 1, 2, 2, 3, 3]))


def test_milestones_are_shares(tmp_path):
    def scheduler(optimizer):
        return MilestoneSchedule(optimizer, [0.5, 0.75], gamma=0.1)

    assert rates(tmp_path, scheduler, max_epochs=4) == pytest.approx([1, 1, 0.1, 0.01])
    assert rates(tmp_path, scheduler, max_epochs=1) == [1]


def test_what_is_told_otherwise_stays(tmp_path):
    assert rates(tmp_path, lambda optimizer: CosineSchedule(optimizer, total=4), max_epochs=2) == cosine(4, [0, 1])


@pytest.mark.parametrize("make", [CosineSchedule, lambda optimizer: MilestoneSchedule(optimizer, [0.5])])
def test_a_training_that_goes_on_follows_its_own_length(make, tmp_path):
    whole = rates(tmp_path, make, max_epochs=4)
    assert len(rates(tmp_path, make, max_epochs=2, keep=True)) == 2
    assert rates(tmp_path, make, max_epochs=4, resumed=tmp_path / "kept.ckpt") == pytest.approx(whole[2:], abs=1e-6)


def test_a_checkpoint_of_a_schedule_of_torch_goes_on(tmp_path):
    rates(tmp_path, lambda optimizer: CosineAnnealingLR(optimizer, 2), max_epochs=2, keep=True)
    assert rates(tmp_path, CosineSchedule, max_epochs=4, resumed=tmp_path / "kept.ckpt") == cosine(4, [2, 3])


def test_a_training_without_an_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no end: give max_epochs, or total"):
        rates(tmp_path, CosineSchedule, max_epochs=-1, max_time="00:00:01:00")
    schedule = CosineSchedule(optimizer := sgd([torch.zeros(1, requires_grad=True)]))
    optimizer.step()
    with pytest.raises(ValueError, match="CosineSchedule: total is None"):
        schedule.step()


def test_shares_are_checked():
    with pytest.raises(ValueError, match=r"milestones: 15, expected shares between 0 and 1"):
        MilestoneSchedule(sgd([torch.zeros(1, requires_grad=True)]), [15])


def test_accumulated_gradients_are_told_of_once(tmp_path):
    data = small_data()
    with pytest.warns(UserWarning, match=r"accumulate_grad_batches is 2: the negatives.*encode_chunk") as warned:
        small_trainer(tmp_path, accumulate_grad_batches=2, max_epochs=2).fit(small_task(data), data)
    assert sum("encode_chunk" in str(warning.message) for warning in warned) == 1


def test_a_schedule_has_to_say_what_follows_from_its_length():
    class Silent(RunSchedule, CosineAnnealingLR):
        pass

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(TypeError, match=r"abstract .*_stretch"):
        Silent(optimizer, 3)
