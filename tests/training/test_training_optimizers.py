"""What weight decay acts on, and checkpoints with other groups of parameters."""

import warnings

import pytest
import torch
from helpers_training import small_data, small_task, small_trainer
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from itmatch.losses import InfoNCELoss
from itmatch.nn import InteractiveSimilarity
from itmatch.training.optimizers import make_optimizer


def adamw(groups):
    return torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)


def decayed(task):
    """Names of the parameters that a step without any gradient makes smaller, and of those it leaves alone."""
    optimizer = task.configure_optimizers()
    for parameter in task.parameters():
        torch.nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    names = {True: set(), False: set()}
    for name, parameter in task.named_parameters():
        names[bool((parameter < 1).all())].add(name)
    return names[True], names[False]


@pytest.fixture
def task():
    return small_task(
        small_data(),
        optimizer=adamw,
        similarity=InteractiveSimilarity(),
        objective=InfoNCELoss(learnable=True),
        lr_scale={"text_encoder": 0.5},
    )


def test_biases_norms_and_learned_scales_do_not_decay(task):
    smaller, same = decayed(task)
    one_dimensional = {name for name, parameter in task.named_parameters() if parameter.ndim <= 1}
    assert same == one_dimensional
    assert {"objective.log_scale", "model.similarity.gamma_words", "model.image_encoder.norm.weight"} <= same
    assert {"model.text_encoder.embed.weight", "model.text_encoder.rnn.weight_ih_l0"} <= smaller


def test_they_do_where_it_is_wanted(task):
    task.decay_one_dimensional = True
    assert decayed(task)[1] == set()


def test_factors_hold_for_both_parts(task):
    groups = task.configure_optimizers().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.1, 0.5), (0.1, 0), (0.05, 0.5), (0.05, 0)]
    assert sum(len(group["params"]) for group in groups) == len(list(task.parameters()))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda groups: torch.optim.SGD(groups, lr=0.1), 2),
        (lambda groups: torch.optim.Rprop(groups, lr=0.1), 1),
        (lambda groups: torch.optim.LBFGS(groups[0]["params"], lr=0.1), 1),
        (lambda groups: torch.optim.LBFGS(groups, lr=0.1), 1),
    ],
)
def test_optimizers_without_weight_decay_have_one_group_a_factor(make, count):
    optimizer = small_task(small_data(), optimizer=make).configure_optimizers()
    assert len(optimizer.param_groups) == count
    assert optimizer.param_groups[-1].get("weight_decay", 0) == 0


def test_flattened_parameters_are_told_of():
    """Of these FSDP has hidden the shapes: all of them have one dimension."""
    parameters = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
    for parameter in parameters:
        parameter._fsdp_flattened = True
    with pytest.warns(UserWarning, match="FSDP has flattened the parameters"):
        optimizer, _ = make_optimizer(
            adamw, [("a", parameters[0]), ("b", parameters[1])], {}, decay_one_dimensional=False
        )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5]


# ---------------------------------------------------------------------------------------------------- checkpoints


def run(folder, max_epochs, ckpt_path=None, optimizer=adamw, **kwargs):
    seed_everything(3, verbose=False)
    data = small_data()
    task = small_task(
        data,
        optimizer=optimizer,
        lr_scale={"text_encoder": 0.5},
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7),
        **kwargs,
    )
    callbacks = [ModelCheckpoint(dirpath=folder, filename="kept", enable_version_counter=False)]
    trainer = small_trainer(
        folder, max_epochs=max_epochs, enable_checkpointing=True, callbacks=callbacks, limit_val_batches=0
    )
    trainer.fit(task, data, ckpt_path=ckpt_path)
    return task


def resumed(folder, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = run(folder, 2, str(folder / "kept.ckpt"), **kwargs)
    return task, [str(w.message) for w in caught if "wins over the one given" in str(w.message)]


def test_a_decay_of_0_is_no_replaced_setting(tmp_path):
    run(tmp_path, 1)
    assert resumed(tmp_path)[1] == []


def test_a_decay_that_the_checkpoint_replaces_is_told(tmp_path):
    run(tmp_path, 1)
    told = resumed(tmp_path, optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.25))[1]
    assert len(told) == 1
    assert told[0].endswith("the one given: weight_decay is 0.5, not 0.25")


def test_a_checkpoint_of_before_goes_on_as_it_was_trained(tmp_path):
    """It has one group a factor, which is what the option gives."""
    whole = run(tmp_path / "whole", 2, decay_one_dimensional=True)
    run(tmp_path, 1, decay_one_dimensional=True)
    assert len(torch.load(tmp_path / "kept.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]) == 2
    task, told = resumed(tmp_path, decay_one_dimensional=True)
    assert told == []
    for (name, expected), found in zip(whole.state_dict().items(), task.state_dict().values(), strict=True):
        assert torch.equal(expected, found), name


@pytest.mark.parametrize("before", [True, False])
def test_groups_that_do_not_fit_are_refused_in_one_line(tmp_path, before):
    run(tmp_path, 1, decay_one_dimensional=before)
    found, expected = (2, 4) if before else (4, 2)
    message = f"the checkpoint's optimizer has {found} groups of parameters, expected {expected}.*decay_one_dimensional"
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path, 2, str(tmp_path / "kept.ckpt"), decay_one_dimensional=not before)
    assert "\n" not in str(caught.value)


def test_the_option_is_in_the_checkpoint(tmp_path):
    task = run(tmp_path, 1, decay_one_dimensional=True)
    content = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert content["hyper_parameters"]["decay_one_dimensional"] is True
    assert type(task).load_from_checkpoint(tmp_path / "kept.ckpt", weights_only=True).decay_one_dimensional is True
