"""A training that diverges says so, whatever is seen of it first."""

import pytest
import torch
from helpers_training import fitted, small_data, small_task, small_trainer
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision

from itmatch.losses import EmbeddingLoss, HardNegativeTripletLoss, ScoreLoss
from itmatch.nn import HardAligningSimilarity, MeanPooling
from itmatch.training.checkpoints.writing import BestCheckpoint

TOLD = r"the training diverged at step {step} \(epoch {epoch}\) with a learning rate of {rate}: {what}; try a smaller"


class Broken(ScoreLoss):
    """A loss whose value, or whose gradient, is multiplied by a number in one step."""

    def __init__(self, value=1.0, gradient=1.0, step=0):
        super().__init__()
        self.value, self.gradient, self.step, self.calls = value, gradient, step, 0

    def forward(self, scores, positives=None):
        now, self.calls = self.calls == self.step, self.calls + 1
        if now and scores.requires_grad:
            scores.register_hook(lambda grad: grad * self.gradient)
        return scores.mean() * (self.value if now else 1.0)


class Seen(Callback):
    """How many steps have ended."""

    ended = 0

    def on_train_batch_end(self, *_):
        self.ended += 1


def fit(folder, task, data, **options):
    trainer = small_trainer(folder, **options)
    trainer.fit(task, data)
    return trainer


def sgd(rate):
    return lambda groups: torch.optim.SGD(groups, lr=rate)


def test_a_learning_rate_that_is_too_large(tmp_path):
    data = small_data()
    task = small_task(data, optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e3))
    with pytest.raises(FloatingPointError, match=TOLD.format(step=r"\d+", epoch=r"\d", rate=1000, what="Fragments.*")):
        fit(tmp_path, task, data, max_epochs=20, limit_val_batches=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(value, tmp_path):
    data = small_data()
    task = small_task(data, objective=Broken(value=value, step=2), optimizer=sgd(0.25))
    told = TOLD.format(step=2, epoch=0, rate=0.25, what=f"the loss is -?{value}")
    with pytest.raises(FloatingPointError, match=told):
        fit(tmp_path, task, data)


@pytest.mark.parametrize("step", [2, 4])  # followed by another one; the last of the run
def test_on_a_device_a_loss_is_looked_at_a_step_later(step, tmp_path, monkeypatch):
    monkeypatch.setattr("itmatch.training.divergence.readable", lambda tensor: False)
    data, seen = small_data(), Seen()
    task = small_task(data, objective=Broken(value=float("nan"), gradient=0.0, step=step), optimizer=sgd(0.25))
    keeping = BestCheckpoint(dirpath=tmp_path / "kept", save_last=True)
    options = {"callbacks": [seen, keeping], "enable_checkpointing": True, "limit_val_batches": 0}
    told = TOLD.format(step=step, epoch=0, rate=0.25, what="the loss is nan")
    monkeypatch.setattr("itmatch.batch.readable", lambda tensor: False)  # as nothing is on a device
    with pytest.raises(FloatingPointError, match=told):
        fit(tmp_path, task, data, **options)
    assert seen.ended == step + 1
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("step", [1, 4])  # followed by another one; the last of the run
@pytest.mark.parametrize("validated", [False, True])
def test_a_gradient_that_is_not_finite(step, validated, tmp_path):
    """Neither a step without a validation after it nor a checkpoint gets past it."""
    data = small_data()
    task = small_task(data, objective=Broken(gradient=float("nan"), step=step), optimizer=sgd(0.25))
    keeping = BestCheckpoint(dirpath=tmp_path / "kept", save_last=True)
    options = {"callbacks": [keeping], "enable_checkpointing": True, "limit_val_batches": 1.0 if validated else 0}
    what = "the norm of the gradient is nan"  # and not what became of it in the next step
    with pytest.raises(FloatingPointError, match=TOLD.format(step=step, epoch=0, rate=0.25, what=what)):
        fit(tmp_path, task, data, **options)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_gradient_of_the_last_step_needs_no_checkpoint_to_be_seen(tmp_path):
    data = small_data()
    task = small_task(data, objective=Broken(gradient=float("inf"), step=4), optimizer=sgd(0.25))
    told = TOLD.format(step=4, epoch=r"\d", rate=0.25, what="the norm of the gradient is (nan|inf)")
    with pytest.raises(FloatingPointError, match=told):
        fit(tmp_path, task, data, limit_val_batches=0)


def test_weights_that_are_not_finite_are_told_of_in_a_test(tmp_path):
    task, data, trainer = fitted(tmp_path)
    with torch.no_grad():
        task.model.text_encoder.rnn.weight_ih_l0[0, 0] = float("nan")
    told = "NaN or inf at row .*; model.text_encoder.rnn.weight_ih_l0 holds NaN or inf: .* a training that diverged"
    with pytest.raises(FloatingPointError, match=told):
        trainer.test(task, data, verbose=False)
    with pytest.raises(FloatingPointError, match=told):
        trainer.predict(task, data)


class Scaler(torch.amp.GradScaler):
    """One that begins at a scale of 4."""

    def __init__(self):
        super().__init__("cpu", init_scale=4.0)


def half(**options):
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler=Scaler())], "limit_val_batches": 0} | options


class Scales(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append(trainer.precision_plugin.scaler.get_scale())


def test_a_scaler_may_leave_out_a_step(tmp_path):
    data, scales = small_data(), Scales()
    task = small_task(data, objective=Broken(gradient=float("inf"), step=1))
    fit(tmp_path, task, data, **half(callbacks=[scales]))
    assert scales.seen == [4.0, 2.0, 2.0, 2.0, 2.0]


def test_a_scaler_that_leaves_out_every_step_is_a_divergence(tmp_path):
    class Always(ScoreLoss):
        def forward(self, scores, positives=None):
            scores.register_hook(lambda grad: grad * float("inf"))
            return scores.mean()

    data = small_data()
    task = small_task(data, objective=Always(), optimizer=sgd(0.25))
    what = "the gradients are infinite in float16 even at a scale of 0.5"
    with pytest.raises(FloatingPointError, match=TOLD.format(step=r"\d", epoch=0, rate=0.25, what=what)):
        fit(tmp_path, task, data, **half())


class Detaching(HardAligningSimilarity):
    def forward(self, image, text):
        return super().forward(image, text).detach()


class DetachingLoss(ScoreLoss):
    def forward(self, scores, positives=None):
        return scores.detach().mean()


class DetachingVectors(EmbeddingLoss):
    def forward(self, image, text, groups=None):
        return (image - text).detach().square().mean()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"objective": DetachingVectors(), "pooling": MeanPooling()}, "the loss has no gradient, .*: an encoder or"),
        ({"similarity": Detaching()}, "the scores have no gradient, .*: an encoder or the similarity cuts it off"),
        ({"objective": DetachingLoss()}, "the loss has no gradient, .*: the objective cuts it off"),
    ],
)
def test_a_part_that_detaches_is_told_of(tmp_path, parts, told):
    data = small_data()
    with pytest.raises(ValueError, match=told):
        fit(tmp_path, small_task(data, **parts), data)
    task = small_task(data, **parts)
    task.requires_grad_(requires_grad=False)
    with pytest.raises(ValueError, match="empty parameter list"):  # of torch: nothing is to be trained
        fit(tmp_path, task, data)


def test_an_objective_may_be_trained_alone(tmp_path):
    class Scaled(HardNegativeTripletLoss):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, scores, positives=None):
            return super().forward(scores * self.scale, positives)

    data = small_data()
    fit(tmp_path, small_task(data, similarity=Detaching(), objective=Scaled()), data)
