import math

import pytest
import torch
from helpers_score_losses import both_directions, random_case

from itmatch.losses import DistanceWeightedNegatives, hard_negative_triplet_loss


def distance_weighted(scores, positives=None, dim=8, margin=0.2, cutoff=0.5, far=1.4, reduction="sum", sample=False):
    rule = DistanceWeightedNegatives(dim, cutoff, far, sample=sample)
    return hard_negative_triplet_loss(scores, positives, margin=margin, negatives=rule, reduction=reduction)


def weights_of(others, dim, cutoff, far):
    distances = [math.sqrt(max(2 - 2 * min(max(s, -1), 1), 0)) for s in others]
    density = [max(d, cutoff) ** (dim - 2) * (1 - max(d, cutoff) ** 2 / 4) ** ((dim - 3) / 2) for d in distances]
    weights = [1 / q if d <= far else 0.0 for q, d in zip(density, distances, strict=True)]
    if not any(weights):
        weights = [1.0] * len(others)
    return [w / sum(weights) for w in weights]


def naive(scores, positives, dim, margin, cutoff, far):
    total = 0.0
    for rows, masks in both_directions(scores, positives):
        for row, mask in zip(rows, masks, strict=True):
            others = [s for s, positive in zip(row, mask, strict=True) if not positive]
            weights = weights_of(others, dim, cutoff, far) if others else []
            for s, positive in zip(row, mask, strict=True):
                if positive:
                    total += sum(w * max(margin + n - s, 0) for w, n in zip(weights, others, strict=True))
    return total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("cutoff", "far"), [(0.5, 1.4), (0.9, 1.9), (0.1, 0.3)])
def test_equals_the_formula(seed, cutoff, far):
    scores, positives = random_case(seed, spread=1.0)
    scores[0, 2], scores[3, 4] = 0.99, 0.9  # nearer than the cutoff
    expected = naive(scores, positives, 12, 0.3, cutoff, far)
    loss = distance_weighted(scores, positives, 12, 0.3, cutoff, far)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    mean = distance_weighted(scores, positives, 12, 0.3, cutoff, far, "mean")
    assert mean.item() == pytest.approx(expected / positives.sum().item(), rel=1e-10)


def test_scores_beyond_cosines_are_cut_in_the_weights():
    scores = torch.tensor([[0.5, 1.7, 0.2], [-1.6, 0.4, 0.1], [0.0, 0.3, 0.2]], dtype=torch.float64)
    expected = naive(scores, torch.eye(3), 8, 0.2, 0.5, 1.4)
    assert distance_weighted(scores, dim=8).item() == pytest.approx(expected, rel=1e-12)
    scores = torch.tensor([[0.5, -1.6, -1.0]], requires_grad=True)
    positives = torch.tensor([[True, False, False]])
    distance_weighted(scores, positives, dim=8, margin=5.0, far=2.0).backward()
    assert scores.grad.tolist() == [[-1.0, 0.5, 0.5]]


@pytest.mark.parametrize("seed", range(2))
def test_gradient_with_the_weights_held_fixed(seed):
    scores, positives = random_case(seed)
    scores.requires_grad_()
    distance_weighted(scores, positives, dim=6).backward()
    expected = torch.zeros_like(scores)
    for transposed in (False, True):
        s, p = (scores.detach().T, positives.T) if transposed else (scores.detach(), positives)
        gradient = expected.T if transposed else expected
        for i, mask in enumerate(p.tolist()):
            places = [t for t, positive in enumerate(mask) if not positive]
            weights = weights_of(s[i, places].tolist(), 6, 0.5, 1.4) if places else []
            for t in [t for t, positive in enumerate(mask) if positive]:
                for u, w in zip(places, weights, strict=True):
                    active = w * (0.2 + s[i, u] - s[i, t] > 0)
                    gradient[i, u] += active
                    gradient[i, t] -= active
    assert torch.allclose(scores.grad, expected)


def test_nearer_negatives_weigh_more_and_far_ones_nothing():
    scores = torch.tensor([[0.7, 0.6, 0.5, -0.9]], requires_grad=True)
    positives = torch.tensor([[True, False, False, False]])
    distance_weighted(scores, positives, dim=16, margin=2.0).backward()
    assert scores.grad[0, 1] > 2 * scores.grad[0, 2] > 0
    assert scores.grad[0, 3] == 0
    assert scores.grad[0, 1:].sum().item() == pytest.approx(1)


def test_a_draw_has_the_expectation():
    scores = torch.tensor([[0.7, 0.6, 0.2]])
    positives = torch.tensor([[True, False, False]])
    expected = distance_weighted(scores, positives, dim=6, margin=2.0).item()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = torch.stack([distance_weighted(scores, positives, 6, 2.0, sample=True) for _ in range(2000)])
    assert draws.std() > 0
    assert draws.mean().item() == pytest.approx(expected, abs=5 * draws.std().item() / 2000**0.5)


def test_many_dimensions_stay_finite():
    scores = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).requires_grad_()
    loss = distance_weighted(scores, dim=4096)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dim": 1}, "dim: 1, expected a whole number, 2 or more"),
        ({"cutoff": 0.0}, "cutoff, far: 0.0 and 1.4"),
        ({"cutoff": 1.5}, "cutoff, far: 1.5 and 1.4"),
        ({"far": 2.5}, "cutoff, far: 0.5 and 2.5"),
    ],
)
def test_bad_settings(kwargs, message):
    kwargs = {"dim": 8, **kwargs}
    with pytest.raises(ValueError, match=message):
        DistanceWeightedNegatives(**kwargs)
