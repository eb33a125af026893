import math

import pytest
import torch
from helpers_score_losses import both_directions, random_case, split

from itmatch.losses import CircleLoss, circle_loss


def naive(scores, positives, margin, scale, weights=None):
    """The formula; with weights of other scores, to hold them fixed."""
    weights = scores if weights is None else weights
    total = 0.0
    for rows, masks, fixed in both_directions(scores, positives, weights):
        anchors = []
        for row, mask, weight in zip(rows, masks, fixed, strict=True):
            own, others = split(list(zip(row, weight, strict=True)), mask)
            if own:
                against = sum(math.exp(scale * max(w + margin, 0) * (s - margin)) for s, w in others)
                behind = sum(math.exp(-scale * max(1 + margin - w, 0) * (s - 1 + margin)) for s, w in own)
                anchors.append(math.log(1 + against * behind))
        total += sum(anchors) / len(anchors) / 2
    return total


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed, spread=1.5)  # beyond cosines, where the weights end
    expected = naive(scores, positives, 0.25, 6.0)  # torch takes softplus(x) as x from 20 on, 2e-9 off
    assert CircleLoss(temperature=1 / 6)(scores, positives).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_gradient_with_the_weights_held_fixed(seed):
    scores, positives = random_case(seed)
    scores.requires_grad_()
    circle_loss(scores, positives, temperature=1 / 6).backward()
    base = scores.detach()
    for i, t in [(0, 0), (0, 1), (1, 3), (2, 5), (4, 8)]:
        step = torch.zeros_like(base)
        step[i, t] = 1e-5
        rise = naive(base + step, positives, 0.25, 6.0, base) - naive(base - step, positives, 0.25, 6.0, base)
        assert scores.grad[i, t].item() == pytest.approx(rise / 2e-5, abs=1e-7)


def test_a_score_is_pulled_as_it_is_far_from_its_place():
    scores = torch.tensor([[0.9, 0.1, -0.3], [0.0, 0.2, 0.0], [0.0, 0.0, 0.9]], requires_grad=True)
    circle_loss(scores, temperature=0.25).backward()
    assert scores.grad[1, 1] < 4 * scores.grad[0, 0] < 0
    assert scores.grad[0, 2] == 0  # below -margin


def test_large_scores_stay_finite():
    scores = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    loss = circle_loss(scores)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margin": -0.1}, "margin: -0.1"),
        ({"margin": 1.0}, "margin: 1.0, expected from 0"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CircleLoss(**kwargs)
    with pytest.raises(ValueError, match=message):
        circle_loss(torch.eye(2), **kwargs)
