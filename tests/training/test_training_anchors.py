"""Training beside finished models: what the loss gets, and what must not be written."""

import copy
import warnings

import pytest
import torch
from helpers_training import fitted, small_data, small_task, small_trainer
from lightning.pytorch import seed_everything

from itmatch.losses import AnchoredMarginLoss, DistillationLoss, HardNegativeTripletLoss, Objective
from itmatch.training import MatchingTask
from itmatch.training.step import compute_loss


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The first member: its folder, its checkpoint and its model."""
    folder = tmp_path_factory.mktemp("first")
    task, _, trainer = fitted(folder, seed=1)
    task.model.save_pretrained(folder / "model")
    trainer.save_checkpoint(folder / "first.ckpt")
    return str(folder / "model"), str(folder / "first.ckpt"), task.model.eval()


class Seeing(AnchoredMarginLoss):
    """Keeps what it is given."""

    def forward(self, scores, positives=None, anchors=None):
        self.seen = scores.detach(), anchors
        return super().forward(scores, positives, anchors)


def test_the_loss_gets_the_scores_of_the_anchors(first):
    data, objective = small_data(), Seeing()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    task = small_task(data, objective=objective, dropout=0.3)
    other = copy.deepcopy(task.model).eval()
    result = compute_loss(task.model, objective, batch, anchors=[first[2], other])
    scores, anchors = objective.seen
    assert anchors.shape == (2, *scores.shape)
    assert not anchors.requires_grad
    torch.testing.assert_close(anchors[0], first[2](batch.regions, batch.captions).detach())
    assert not torch.equal(anchors[1], scores)  # without the dropout of the model in training
    assert result.matches.anchors is anchors
    assert compute_loss(task.model, HardNegativeTripletLoss(), batch, anchors=[other]).matches.anchors is None


def test_a_model_is_distilled(tmp_path, first):
    data = small_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    objective = Objective({"triplet": HardNegativeTripletLoss(), "distillation": DistillationLoss()})
    again = compute_loss(first[2], objective, batch, anchors=[first[2]])
    assert again.terms["distillation"].item() == pytest.approx(0, abs=1e-5)
    task = small_task(data, objective=objective, anchors=[first[1]])
    assert compute_loss(task.model, objective, batch, anchors=[first[2]]).terms["distillation"] > 1e-3
    small_trainer(tmp_path).fit(task, data)
    with pytest.raises(ValueError, match="anchors: None, but DistillationLoss reads it"):
        compute_loss(task.model, objective, batch)


@pytest.mark.parametrize("place", [0, 1])
def test_trains_beside_a_finished_model_which_stays_as_it_is(tmp_path, first, place):
    seed_everything(0, verbose=False)
    data = small_data()
    task = small_task(data, objective=Seeing(0.05, 0.05), anchors=[first[place]])
    before = {name for name, _ in task.named_parameters()}
    trainer = small_trainer(tmp_path)
    trainer.fit(task, data)
    (anchor,) = task.anchors.models
    assert not anchor.training
    for (name, value), expected in zip(anchor.state_dict().items(), first[2].state_dict().values(), strict=True):
        assert torch.equal(value, expected), name
    assert task.objective.seen[1].shape == (1, *task.objective.seen[0].shape)
    assert {name for name, _ in task.named_parameters()} == before
    trainer.save_checkpoint(tmp_path / "second.ckpt")
    again = MatchingTask.load_from_checkpoint(tmp_path / "second.ckpt")  # as for a search: needs no anchor
    assert again.anchors.paths == []
    assert set(again.state_dict()) == set(task.state_dict())


def test_a_training_that_goes_on_without_its_anchors_warns(tmp_path, first):
    data = small_data()
    task = small_task(data, objective=AnchoredMarginLoss(0.05), anchors=[first[0]])
    trainer = small_trainer(tmp_path)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "second.ckpt")
    on = small_task(data, objective=AnchoredMarginLoss(0.05))
    with pytest.warns(UserWarning, match=r"was trained with the anchors \['.*model'\], not \[\]"):
        small_trainer(tmp_path, max_epochs=2).fit(on, data, ckpt_path=str(tmp_path / "second.ckpt"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*anchors")
        small_trainer(tmp_path).test(on, data, ckpt_path=str(tmp_path / "second.ckpt"), verbose=False)


def test_what_does_not_fit(tmp_path, first):
    data = small_data()
    for anchors, objective, error, message in [
        ([first[0]], HardNegativeTripletLoss(), ValueError, "anchors: 1 given, but HardNegativeTripletLoss reads none"),
        ([str(tmp_path / "no")], AnchoredMarginLoss(), FileNotFoundError, "anchors: '.*no': no such checkpoint"),
    ]:
        with pytest.raises(error, match=message):
            small_trainer(tmp_path).fit(small_task(data, objective=objective, anchors=anchors), data)
    with pytest.raises(TypeError, match=r"anchors: one string, '.*', expected a list of strings"):
        small_task(data, anchors=first[0])
    other = small_data(tokenizer=_other_tokenizer())
    task = small_task(other, objective=AnchoredMarginLoss(), anchors=[first[0]])
    with pytest.raises(ValueError, match=r"its tokenizer .* is not that of the model in training"):
        small_trainer(tmp_path).fit(task, other)


def _other_tokenizer():
    from itmatch.data import WordTokenizer

    tokenizer = WordTokenizer(min_count=3)
    tokenizer.fit(small_data().source.split("train").captions)
    return tokenizer
