import pytest
import torch
from helpers_score_losses import both_directions, random_case, split

from itmatch.losses import HardNegativeTripletLoss, SelectiveNegatives, hard_negative_triplet_loss


def selective(scores, positives=None, epsilon=0.01):
    return hard_negative_triplet_loss(scores, positives, negatives=SelectiveNegatives(epsilon))


def naive(scores, positives, margin, epsilon):
    """The loss, and how often each of the two cases is met."""
    total, cases = 0.0, [0, 0]
    for rows, masks in both_directions(scores, positives):
        for row, mask in zip(rows, masks, strict=True):
            own, others = split(row, mask)
            for s in own if others else []:
                hinges = [max(margin + n - s, 0) for n in others]
                tied = abs(s - max(others)) < epsilon
                cases[tied] += 1
                total += sum(hinges) / len(hinges) if tied else max(hinges)
    return total, cases


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    expected, cases = naive(scores, positives, 0.2, 0.6)
    assert min(cases) > 0
    assert selective(scores, positives, epsilon=0.6).item() == pytest.approx(expected, rel=1e-12)
    mean = HardNegativeTripletLoss(negatives=SelectiveNegatives(0.6), reduction="mean")(scores, positives)
    assert mean.item() == pytest.approx(expected / positives.sum().item(), rel=1e-12)


def test_the_bounds_of_epsilon():
    scores, positives = random_case(1)
    hardest = hard_negative_triplet_loss(scores, positives)
    assert selective(scores, positives, epsilon=0.0).item() == pytest.approx(hardest.item())
    tied = torch.tensor([[0.5, 0.5, 0.1], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
    assert selective(tied, epsilon=0.0).item() == pytest.approx(0.2)
    square = torch.randn(6, 6, dtype=torch.float64)
    everything = hard_negative_triplet_loss(square, negatives="all") / 5
    assert selective(square, epsilon=99.0).item() == pytest.approx(everything.item())


def test_all_negatives_count_in_a_collapse():
    scores = torch.zeros(4, 4, requires_grad=True)
    selective(scores).backward()
    off = ~torch.eye(4, dtype=torch.bool)
    assert torch.allclose(scores.grad[off], torch.full((12,), 2 / 3))
    assert torch.allclose(scores.grad[~off], torch.full((4,), -2.0))


def test_gradient():
    scores, positives = random_case(0)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: selective(s, positives, epsilon=0.6), (scores,))


@pytest.mark.parametrize("epsilon", [float("nan"), -0.1])
def test_bad_settings(epsilon):
    with pytest.raises(ValueError, match=f"epsilon: {epsilon}"):
        SelectiveNegatives(epsilon)
