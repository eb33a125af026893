import pytest
import torch
from helpers_score_losses import both_directions, random_case, split

from itmatch.losses import PositiveNegativeMarginLoss, positive_negative_margin_loss

OPTIONS = {"positive_margin": 0.5, "negative_margin": -0.3, "positive_weight": 2.0, "negative_weight": 0.7}


def naive(scores, positives, negatives, reduction):
    above, below = [], []
    for row, mask in zip(scores.tolist(), positives.tolist(), strict=True):
        own, others = split(row, mask)
        below += [max(0.5 - s, 0) for s in own]
        if negatives == "all":
            above += [max(s + 0.3, 0) for s in others]
    if negatives == "hardest":
        for rows, masks in both_directions(scores, positives):
            for row, mask in zip(rows, masks, strict=True):
                own, others = split(row, mask)
                if own and others:
                    above.append(max(max(others) + 0.3, 0))
    if reduction == "mean":
        return 2.0 * sum(below) / len(below) + 0.7 * sum(above) / len(above)
    return 2.0 * sum(below) + 0.7 * sum(above)


@pytest.mark.parametrize("negatives", ["hardest", "all"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(negatives, reduction, seed):
    scores, positives = random_case(seed)
    loss = PositiveNegativeMarginLoss(negatives=negatives, reduction=reduction, **OPTIONS)(scores, positives)
    assert loss.item() == pytest.approx(naive(scores, positives, negatives, reduction), rel=1e-12)


@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_gradient(negatives):
    scores, positives = random_case(0)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: positive_negative_margin_loss(s, positives, negatives=negatives, **OPTIONS), (scores,)
    )


def test_the_sides_stand_alone():
    scores = torch.tensor([[0.5, 0.3], [0.2, 0.9]])
    assert positive_negative_margin_loss(scores, negative_weight=0).item() == pytest.approx(0.1)
    assert positive_negative_margin_loss(scores, positive_weight=0).item() == pytest.approx(0.2)  # a row and a column


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"positive_margin": 0.2, "negative_margin": 0.2}, "positive_margin: 0.2, expected more than negative_margin"),
        ({"positive_margin": float("inf")}, "positive_margin: inf"),
        ({"negative_margin": float("nan")}, "negative_margin: nan"),
        ({"negatives": "some"}, "negatives: 'some', expected 'hardest' or 'all'"),
        ({"reduction": "none"}, "reduction: 'none', expected 'sum' or 'mean'"),
        ({"positive_weight": -1.0}, "positive_weight: -1.0"),
        ({"negative_weight": float("nan")}, "negative_weight: nan"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PositiveNegativeMarginLoss(**kwargs)
    with pytest.raises(ValueError, match=message):
        positive_negative_margin_loss(torch.eye(2), **kwargs)
