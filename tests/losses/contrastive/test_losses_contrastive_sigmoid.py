import math

import pytest
import torch
from helpers_score_losses import random_case

from itmatch.losses import SigmoidLoss, sigmoid_loss


def naive(scores, positives, scale, bias):
    total = 0.0
    for row, mask in zip(scores.tolist(), positives.tolist(), strict=True):
        for s, positive in zip(row, mask, strict=True):
            z = 1 if positive else -1
            total -= math.log(1 / (1 + math.exp(-z * (scale * s + bias))))
    return total / scores.shape[1]


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    expected = naive(scores, positives, 4.0, -1.5)
    assert sigmoid_loss(scores, positives, temperature=0.25, bias=-1.5).item() == pytest.approx(expected, rel=1e-12)
    fixed = SigmoidLoss(0.25, -1.5, learnable=False)
    assert fixed(scores, positives).item() == pytest.approx(expected, rel=1e-12)


def test_divided_by_the_captions():
    scores, positives = torch.zeros(2, 5), torch.ones(2, 5, dtype=torch.bool)
    assert sigmoid_loss(scores, positives, bias=0.0).item() == pytest.approx(2 * math.log(2))


def test_gradient():
    scores, positives = random_case(0)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, a, b: sigmoid_loss(s, positives, temperature=a, bias=b), (scores, temperature, bias)
    )


def test_starts_as_in_the_paper_and_learns():
    loss = SigmoidLoss()
    assert loss.log_scale.item() == pytest.approx(math.log(10))
    assert loss.shift.item() == -10
    loss(torch.randn(4, 4)).backward()
    assert loss.log_scale.grad.abs() > 0
    assert loss.shift.grad.abs() > 0


def test_learned_values_are_used():
    loss = SigmoidLoss(0.25, -1.5)
    with torch.no_grad():
        loss.log_scale.fill_(math.log(2))
        loss.shift.fill_(0.5)
    scores, positives = random_case(1)
    expected = naive(scores, positives, 2.0, 0.5)
    assert loss(scores, positives).item() == pytest.approx(expected, rel=1e-6)


def test_fixed_values_are_no_parameters():
    loss = SigmoidLoss(0.2, -3.0, learnable=False)
    assert not list(loss.parameters())
    assert (loss.temperature, loss.bias) == (0.2, -3.0)
    assert "learnable=False" in repr(loss)


def test_extreme_scores_stay_finite():
    scores = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    loss = sigmoid_loss(scores, temperature=0.1, bias=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(2e5)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0.0, expected a finite number above 0"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"bias": float("inf")}, "bias: inf"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SigmoidLoss(**kwargs)
