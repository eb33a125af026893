"""Encoders through torch.compile: the same training, the same names of weights."""

import pytest
import torch
from helpers_training import small_data, small_task, small_trainer
from lightning.pytorch import seed_everything
from torch import nn

from itmatch.training import MatchingTask


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Graphs are taken, and run by PyTorch: the compiler behind them takes a minute, and is not ours to test."""
    taken, compile_module = [], nn.Module.compile

    def compilequickly(module):
        taken.append(module)
        compile_module(module, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compilequickly)
    yield taken
    torch.compiler.reset()


def trained(folder, *, compile):
    seed_everything(0, verbose=False)
    data = small_data()
    task = small_task(data, compile=compile)
    trainer = small_trainer(folder, limit_train_batches=3, limit_val_batches=1, log_every_n_steps=1)
    trainer.fit(task, data)
    trainer.save_checkpoint(folder / f"{compile}.ckpt")
    task.model.save_pretrained(folder / f"{compile}")
    return task, trainer


def test_a_compiled_training_is_the_plain_one(tmp_path, quick):
    (plain, first), (compiled, second) = (trained(tmp_path, compile=setting) for setting in (False, True))
    assert quick == [compiled.model.image_encoder]  # the other is a GRU
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, ours in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], ours, rtol=1e-4, atol=1e-5)
    assert float(second.callback_metrics["train/loss"]) == pytest.approx(
        float(first.callback_metrics["train/loss"]), rel=1e-4
    )


def test_what_is_saved_has_the_same_names(tmp_path):
    for setting in (False, True):
        trained(tmp_path, compile=setting)
    plain, compiled = (torch.load(tmp_path / f"{setting}.ckpt", weights_only=True) for setting in (False, True))
    assert list(compiled["state_dict"]) == list(plain["state_dict"])
    assert compiled["hyper_parameters"].pop("compile")
    assert not plain["hyper_parameters"].pop("compile")
    assert compiled["hyper_parameters"] == plain["hyper_parameters"]
    folders = [sorted(path.name for path in (tmp_path / f"{setting}").iterdir()) for setting in (False, True)]
    assert folders[0] == folders[1]
    again = MatchingTask.load_from_checkpoint(tmp_path / "True.ckpt")
    assert again.compiled
