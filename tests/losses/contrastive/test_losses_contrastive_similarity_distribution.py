import math

import pytest
import torch
from helpers_robust_losses import MATRICES, close, reference, robust
from helpers_score_losses import both_directions, random_case

from itmatch.losses import SimilarityDistributionLoss, similarity_distribution_loss


def naive(scores, positives, temperature, epsilon):
    total = 0.0
    for rows, masks in both_directions(scores, positives):
        anchors = []
        for row, mask in zip(rows, masks, strict=True):
            weights = [math.exp(s / temperature) for s in row]
            shares = [w / sum(weights) for w in weights]
            wanted = [m / max(1, sum(mask)) for m in mask]
            if any(mask):
                anchors.append(
                    sum(p * (math.log(p) - math.log(q + epsilon)) for p, q in zip(shares, wanted, strict=True))
                )
        total += sum(anchors) / len(anchors)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    value = similarity_distribution_loss(scores, positives, temperature=0.3, epsilon=1e-5)
    assert value.item() == pytest.approx(naive(scores, positives, 0.3, 1e-5), rel=1e-12)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("scale", [50, 20, 10])
def test_agrees_with_the_public_code(matrix, scale):
    name = f"sdm.{matrix}.scale{scale}"
    scores, positives, expected, gradient = robust(matrix, f"{name}.mean", f"{name}.grad_of_mean")
    value = SimilarityDistributionLoss(1 / scale)(scores, positives)
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)


@pytest.mark.parametrize("scale", [50, 10])
def test_agrees_with_irra_on_features(scale):
    image, text = (reference(f"irra.{side}").clone().requires_grad_() for side in ("image", "text"))
    ids, name = reference("irra.ids"), f"irra.sdm.scale{scale}"
    scores = torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
    value = SimilarityDistributionLoss(1 / scale)(scores, ids[:, None] == ids)
    value.backward()
    close(value, reference(f"{name}.loss"))
    close(image.grad, reference(f"{name}.grad.image"))
    close(text.grad, reference(f"{name}.grad.text"))


def test_gradcheck():
    scores, positives = random_case(1)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: similarity_distribution_loss(s, positives, temperature=0.5), scores)


def test_equal_positives_are_best():
    positives = torch.tensor([[True, True, False, False], [False, False, True, True]])
    even = similarity_distribution_loss(torch.where(positives, 1.0, 0.0), positives)
    uneven = similarity_distribution_loss(torch.tensor([[1.0, 0.9, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]), positives)
    assert even.item() == pytest.approx(0, abs=1e-6)
    assert uneven > 0.1


@pytest.mark.parametrize("setting", ["temperature", "epsilon"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_bad_settings(setting, value):
    with pytest.raises(ValueError, match=setting):
        SimilarityDistributionLoss(**{setting: value})
