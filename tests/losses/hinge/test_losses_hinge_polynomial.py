import pytest
import torch
from helpers_score_losses import both_directions, random_case, split

from itmatch.losses import PolynomialLoss, polynomial_loss


def naive(scores, positives, margin, a, b):
    total = 0.0
    for rows, masks in both_directions(scores, positives):
        for row, mask in zip(rows, masks, strict=True):
            own, others = split(row, mask)
            for s in own if others else []:
                if max(others) + margin > s:
                    total += max(sum(c * s**k for k, c in enumerate(a)), 0)
                    total += max(sum(c * max(others) ** k for k, c in enumerate(b)), 0)
    return total


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    expected = naive(scores, positives, 0.2, (0.5, -0.7, 0.2), (0.03, -0.4, 0.9))
    assert polynomial_loss(scores, positives).item() == pytest.approx(expected, rel=1e-12)
    mean = PolynomialLoss(reduction="mean")(scores, positives)
    assert mean.item() == pytest.approx(expected / positives.sum().item(), rel=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_other_polynomials(seed):
    scores, positives = random_case(seed)
    a, b = [0.1, -0.5, 0.0, 0.3], [0.2]
    loss = PolynomialLoss(margin=0.05, positive_coefficients=a, negative_coefficients=b)
    assert loss(scores, positives).item() == pytest.approx(naive(scores, positives, 0.05, a, b), rel=1e-12)


def test_gradient():
    scores, positives = random_case(0)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: polynomial_loss(s, positives), (scores,))


def test_weights_are_the_slopes():
    scores = torch.tensor([[0.5, 0.4], [-0.5, 1.2]], dtype=torch.float64, requires_grad=True)
    polynomial_loss(scores).backward()
    assert scores.grad[0, 0].item() == pytest.approx(0.4 * 0.5 - 0.7)
    assert scores.grad[0, 1].item() == pytest.approx(1.8 * 0.4 - 0.4)
    assert scores.grad[1].tolist() == [0, 0]  # far enough apart


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margin": -0.1}, "margin: -0.1"),
        ({"reduction": "half"}, "reduction: 'half'"),
        ({"positive_coefficients": []}, "positive_coefficients: none"),
        ({"negative_coefficients": [0.1, float("nan")]}, r"negative_coefficients\[1\]: nan"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PolynomialLoss(**kwargs)
    with pytest.raises(ValueError, match=message):
        polynomial_loss(torch.eye(2), **kwargs)


def test_without_a_reduction_there_is_a_number_per_pair():
    scores, positives = random_case(0)
    each = polynomial_loss(scores, positives, reduction="none")
    assert each.shape == (int(positives.sum()),)
    assert each.sum().item() == pytest.approx(polynomial_loss(scores, positives).item())
