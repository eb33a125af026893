import pytest
import torch

from itmatch.losses import (
    CenterHingeLoss,
    EmbeddingLoss,
    HardNegativeTripletLoss,
    InfoNCELoss,
    Loss,
    Matches,
    MemoryLoss,
    Objective,
    ScoreLoss,
)
from itmatch.spec import build

SCORES = torch.tensor([[0.5, 0.6, 0.1], [0.3, 0.2, 0.1], [0.0, 0.4, 0.3]])
IMAGE, TEXT = torch.eye(4)[:3], torch.eye(4)[1:]
GROUPS = torch.tensor([5, 5, 6])


class Epochs(ScoreLoss):
    """The number of the epoch, and how often it was asked."""

    def __init__(self):
        super().__init__()
        self.epoch, self.asked = 0, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def forward(self, scores, positives=None):
        self.asked += 1
        return scores.sum() * 0 + self.epoch


def mixed(**kwargs):
    return Objective({"triplet": HardNegativeTripletLoss(), "center": CenterHingeLoss(margin=0.5)}, **kwargs)


def test_weighted_sum():
    loss = mixed(weights={"center": 0.25})
    positives = torch.eye(3, dtype=torch.bool) | torch.tensor([[False, True, False]] + [[False] * 3] * 2)
    first = HardNegativeTripletLoss()(SCORES, positives)
    second = CenterHingeLoss(margin=0.5)(IMAGE, TEXT, GROUPS)
    assert first > 0
    assert second > 0
    matches = Matches(SCORES, positives, IMAGE, TEXT, GROUPS)
    values = loss.values(matches)
    assert list(values) == ["triplet", "center"]
    assert (values["triplet"], values["center"]) == (first, second)
    assert loss(SCORES, positives, IMAGE, TEXT, GROUPS).item() == pytest.approx((first + 0.25 * second).item())
    assert loss.total(values) == loss.of(matches)


def test_gradients_reach_all_terms_and_their_parameters():
    loss = Objective({"nce": InfoNCELoss(learnable=True), "center": CenterHingeLoss()}, weights={"center": 0.5})
    scores, image = SCORES.clone().requires_grad_(), IMAGE.clone().requires_grad_()
    loss(scores, None, image, TEXT).backward()
    assert scores.grad.abs().sum() > 0
    assert image.grad.abs().sum() > 0
    assert [name for name, _ in loss.named_parameters()] == ["terms.nce.log_scale"]
    assert loss.terms["nce"].log_scale.grad != 0


def test_buffers_of_terms_are_in_the_state():
    loss = Objective({"queue": MemoryLoss(CenterHingeLoss(), 4, size=8)})
    loss(None, None, IMAGE, TEXT, GROUPS)
    assert loss.state_dict()["terms.queue.seen"] == 3


def test_start_and_ramp():
    loss = mixed(weights={"triplet": 2.0, "center": 0.8}, start={"center": 2}, ramp={"center": 3})
    found = []
    for epoch in range(7):
        loss.set_epoch(epoch)
        found.append(loss.current_weights)
    assert [weights["triplet"] for weights in found] == [2.0] * 7
    assert ["center" in weights for weights in found] == [False, False] + [True] * 5
    assert [weights["center"] for weights in found[2:]] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])


def test_before_the_first_call_it_is_epoch_0():
    loss = mixed(start={"center": 1}, ramp={"triplet": 1})
    assert loss.current_weights == {"triplet": 0.5}
    assert loss(SCORES) == 0.5 * HardNegativeTripletLoss()(SCORES)  # no vectors are needed yet


def test_a_term_that_does_not_count_is_not_computed():
    late, never, now = Epochs(), Epochs(), Epochs()
    loss = Objective({"late": late, "never": never, "now": now}, weights={"never": 0.0}, start={"late": 1})
    assert list(loss.values(Matches(SCORES))) == ["now"]
    loss.set_epoch(1)
    assert list(loss.values(Matches(SCORES))) == ["late", "now"]
    assert (late.asked, never.asked, now.asked) == (1, 0, 2)


def test_the_epoch_is_passed_on():
    inner = Epochs()
    loss = Objective({"a": inner, "b": HardNegativeTripletLoss(warmup_epochs=2)})
    assert loss.terms["b"].current_negatives == "all"
    loss.set_epoch(3)
    assert inner.epoch == 3
    assert loss.terms["b"].current_negatives == "hardest"
    assert loss.values(Matches(SCORES))["a"] == 3


def test_what_is_needed():
    assert mixed().needs == {"scores", "positives", "image", "text", "groups"}
    vectors = Objective({"center": CenterHingeLoss()})
    assert vectors.needs == CenterHingeLoss().needs
    assert vectors(None, image=IMAGE, text=TEXT) == CenterHingeLoss()(IMAGE, TEXT)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="image: None, but CenterHingeLoss reads it"):
        mixed()(SCORES)
    with pytest.raises(ValueError, match="text: None, but CenterHingeLoss reads it"):
        mixed()(SCORES, image=IMAGE)
    with pytest.raises(ValueError, match="scores: None, but HardNegativeTripletLoss reads it"):
        mixed()(None, image=IMAGE, text=TEXT)


def test_collapse_value():
    loss = Objective(
        {"triplet": HardNegativeTripletLoss(margin=0.1), "nce": InfoNCELoss()}, {"triplet": 0.5}, {"nce": 1}
    )
    matches = Matches(torch.rand(4, 4))
    assert loss.collapse_value(matches) == pytest.approx(0.5 * 2 * 4 * 0.1)
    loss.set_epoch(1)
    equal = torch.full((4, 4), 0.3)
    assert loss.collapse_value(matches) == pytest.approx(loss(equal).item())
    positives = torch.eye(4, dtype=torch.bool)
    positives[0, 1] = True
    assert loss.collapse_value(Matches(matches.scores, positives)) == pytest.approx(loss(equal, positives).item())
    assert mixed().collapse_value(matches) is None
    assert mixed().parts["triplet"].collapse_value(matches) == pytest.approx(1.6)


def test_settings_are_recorded():
    loss = mixed(weights={"center": 0.5}, start={"center": 1}, ramp={"center": 2})
    again = build(loss.spec, Loss)
    assert again.spec == loss.spec
    assert list(again.terms) == ["triplet", "center"]
    assert isinstance(again.terms["center"], EmbeddingLoss)
    assert again.terms["center"].margin == 0.5
    again.set_epoch(1)
    assert again.current_weights["center"] == pytest.approx(0.5 / 3)
    assert "weights={'center': 0.5}" in repr(again)


TRIPLET = HardNegativeTripletLoss()


@pytest.mark.parametrize(
    ("terms", "settings", "message"),
    [
        ({}, {}, "terms: {}, expected losses by name"),
        ([TRIPLET], {}, "expected losses by name"),
        ({"a.b": TRIPLET}, {}, "name 'a.b', expected a Python name"),
        ({"": TRIPLET}, {}, "name ''"),
        ({"keys": TRIPLET}, {}, "name 'keys'"),
        ({"training": TRIPLET}, {}, "name 'training'"),
        ({"a": TRIPLET}, {"weights": [1.0]}, r"weights: \[1.0\], expected numbers by the names"),
        ({"a": TRIPLET}, {"weights": {"b": 1.0}}, r"weights: no term is named 'b'; there are \['a'\]"),
        ({"a": TRIPLET}, {"start": {"b": 1}}, "start: no term is named 'b'"),
        ({"a": TRIPLET}, {"ramp": {"b": 1}}, "ramp: no term is named 'b'"),
        ({"a": TRIPLET}, {"weights": {"a": -1.0}}, r"weights\['a'\]: -1.0, expected a finite number"),
        ({"a": TRIPLET}, {"weights": {"a": float("nan")}}, r"weights\['a'\]: nan"),
        ({"a": TRIPLET}, {"weights": {"a": float("inf")}}, r"weights\['a'\]: inf"),
        ({"a": TRIPLET}, {"ramp": {"a": -1}}, r"ramp\['a'\]: -1"),
        ({"a": TRIPLET}, {"ramp": {"a": 1.5}}, r"ramp\['a'\]: 1.5, expected a whole number"),
        ({"a": TRIPLET}, {"weights": {"a": 0.0}}, "no term counts in epoch 0"),
        ({"a": TRIPLET}, {"start": {"a": 1}}, "no term counts in epoch 0"),
    ],
)
def test_bad_settings(terms, settings, message):
    with pytest.raises(ValueError, match=message):
        Objective(terms, **settings)


def test_a_term_is_a_loss_and_may_be_a_sum_itself():
    with pytest.raises(TypeError, match=r"terms: 'a': a MSELoss, expected an itmatch\.losses\.Loss"):
        Objective({"a": torch.nn.MSELoss()})
    loss = Objective({"a": Objective({"b": TRIPLET}, {"b": 2.0}), "c": TRIPLET})
    assert loss(SCORES) == 3 * TRIPLET(SCORES)
