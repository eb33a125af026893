import math

import pytest
import torch
from helpers_score_losses import both_directions, random_case, split

from itmatch.losses import HubnessAwareLoss, hubness_aware_loss


def naive(scores, positives, scale, threshold):
    total = 0.0
    for rows, masks in both_directions(scores, positives):
        anchors = []
        for row, mask in zip(rows, masks, strict=True):
            own, others = split(row, mask)
            if own:
                anchors.append(math.log(1 + sum(math.exp(scale * (s - threshold)) for s in others)) / scale)
        total += sum(anchors) / len(anchors)
    pairs = [math.log(1 + max(s, 0)) for s in scores[positives].tolist()]
    return total - sum(pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    expected = naive(scores, positives, 8.0, 0.1)
    assert HubnessAwareLoss(0.125, 0.1)(scores, positives).item() == pytest.approx(expected, rel=1e-12)


def test_gradient():
    scores, positives = random_case(0)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: hubness_aware_loss(s, positives, temperature=0.2), (scores,))


def test_tends_to_the_hardest_negative():
    scores = torch.rand(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    negative = scores.masked_fill(torch.eye(4, dtype=torch.bool), -9)
    hinges = sum((negative.amax(dim) - 0.1).clamp(min=0).mean() for dim in (0, 1))
    expected = hinges - scores.diagonal().clamp(min=0).log1p().mean()
    assert hubness_aware_loss(scores, temperature=1e-5, threshold=0.1).item() == pytest.approx(
        expected.item(), abs=1e-4
    )


def test_a_hub_is_pushed_from_everywhere():
    scores = torch.eye(4)
    scores[:, 1] = 0.9  # caption 1 is near all images
    scores[3, 0] = 0.9  # a negative as near, of one image
    scores.requires_grad_()
    hubness_aware_loss(scores).backward()
    assert (scores.grad[[0, 2], 1] > 0.15).all()
    assert scores.grad[:, 1].clamp(min=0).sum() > 2 * scores.grad[:, 0].clamp(min=0).sum()


def test_large_scores_stay_finite():
    scores = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    loss = hubness_aware_loss(scores)
    loss.backward()
    assert loss.item() == pytest.approx(2e4, rel=1e-3)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0.0"),
        ({"temperature": float("inf")}, "temperature: inf"),
        ({"threshold": math.nan}, "threshold"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        HubnessAwareLoss(**kwargs)
    with pytest.raises(ValueError, match=message):
        hubness_aware_loss(torch.eye(2), **kwargs)
