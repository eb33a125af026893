import pytest
import torch
from helpers_score_losses import both_directions, grades_of, random_case

from itmatch.losses import AdaptiveMarginTripletLoss, adaptive_margin_triplet_loss, hard_negative_triplet_loss


def naive(scores, positives, relevance, margin, negatives):
    total = 0.0
    for rows, masks, grades in both_directions(scores, positives, relevance):
        for row, mask, grade in zip(rows, masks, grades, strict=True):
            for t, s in enumerate(row):
                if not mask[t]:
                    continue
                hinges = [max(margin * (grade[t] - grade[u]) + row[u] - s, 0) for u in range(len(row)) if not mask[u]]
                total += sum(hinges) if negatives == "all" else max(hinges, default=0)
    return total


@pytest.mark.parametrize("negatives", ["hardest", "all"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(negatives, seed):
    scores, positives = random_case(seed)
    relevance = grades_of(scores, seed)
    expected = naive(scores, positives, relevance, 0.6, negatives)
    loss = AdaptiveMarginTripletLoss(0.6, negatives)(scores, positives, relevance=relevance)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    mean = AdaptiveMarginTripletLoss(0.6, negatives, "mean")(scores, positives, relevance=relevance)
    assert mean.item() == pytest.approx(expected / positives.sum().item(), rel=1e-12)


@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_without_relevance_the_margin_is_constant(negatives):
    scores, positives = random_case(1)
    expected = hard_negative_triplet_loss(scores, positives, margin=0.4, negatives=negatives)
    loss = adaptive_margin_triplet_loss(scores, positives, margin=0.4, negatives=negatives)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    square = torch.randn(5, 5, dtype=torch.float64)
    expected = hard_negative_triplet_loss(square, negatives=negatives)
    assert adaptive_margin_triplet_loss(square, negatives=negatives).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_margin_shrinks_with_the_relevance():
    relevance = torch.eye(2)
    values = []
    for of_negatives in (0.0, 0.25, 1.0):
        given = relevance.masked_fill(relevance == 0, of_negatives)
        values.append(adaptive_margin_triplet_loss(torch.zeros(2, 2), relevance=given, margin=0.4).item())
    assert values == pytest.approx([4 * 0.4, 4 * 0.3, 0])


@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_gradient(negatives):
    scores, positives = random_case(0)
    relevance = grades_of(scores)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: adaptive_margin_triplet_loss(s, positives, relevance=relevance, negatives=negatives), (scores,)
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margin": -0.1}, "margin: -0.1"),
        ({"negatives": "some"}, "negatives: 'some'"),
        ({"reduction": "half"}, "reduction: 'half'"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveMarginTripletLoss(**kwargs)
    with pytest.raises(ValueError, match=message):
        adaptive_margin_triplet_loss(torch.eye(2), **kwargs)


def test_bad_relevance():
    with pytest.raises(ValueError, match=r"relevance: shape \(2,\), expected that of scores, \(2, 2\)"):
        adaptive_margin_triplet_loss(torch.eye(2), relevance=torch.zeros(2))
    with pytest.raises(TypeError, match=r"relevance: torch\.bool"):
        adaptive_margin_triplet_loss(torch.eye(2), relevance=torch.eye(2, dtype=torch.bool))
