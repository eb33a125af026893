import pytest
import torch
from helpers_score_losses import both_directions, grades_of, random_case

from itmatch.losses import (
    AdaptiveMarginTripletLoss,
    LadderLoss,
    SmoothNDCGLoss,
    hard_negative_triplet_loss,
    ladder_loss,
)

SETTINGS = {"margins": [0.3, 0.1, 0.2], "thresholds": [0.6, 0.2], "weights": [0.5, 0.25]}


def naive(scores, positives, relevance, margins, thresholds, weights):
    total = 0.0
    for rows, masks, grades in both_directions(scores, positives, relevance):
        for row, mask, grade in zip(rows, masks, grades, strict=True):
            places = range(len(row))
            for t in places:
                if mask[t]:
                    total += max([max(margins[0] + row[u] - row[t], 0) for u in places if not mask[u]], default=0)
            for margin, threshold, weight in zip(margins[1:], thresholds, weights, strict=True):
                near = [row[t] for t in places if mask[t] or grade[t] >= threshold]
                far = [row[t] for t in places if not (mask[t] or grade[t] >= threshold)]
                if near and far:
                    total += weight * max(margin - min(near) + max(far), 0)
    return total


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    relevance = grades_of(scores, seed)
    if seed == 2:
        relevance[0], relevance[1] = 1.0, 0.0  # all relevant; none but the positives
    expected = naive(scores, positives, relevance, **SETTINGS)
    loss = LadderLoss(**SETTINGS)
    assert loss(scores, positives, relevance=relevance).item() == pytest.approx(expected, rel=1e-12)
    mean = ladder_loss(scores, positives, relevance=relevance, reduction="mean", **SETTINGS)
    assert mean.item() == pytest.approx(expected / positives.sum().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "name", "worst"),
    [
        (LadderLoss(), "relevance", None),
        (SmoothNDCGLoss(), "relevance", -0.1),
        (AdaptiveMarginTripletLoss(), "relevance", 1.1),
    ],
)
def test_grades_that_are_none_are_named(loss, name, worst):
    scores, grades = torch.eye(3), torch.eye(3)
    for value in (torch.nan, torch.inf, *([] if worst is None else [worst])):
        grades[1, 2] = value
        with pytest.raises(ValueError, match=rf"{name}: .* at \(1, 2\), expected a"):
            loss(scores, **{name: grades})


def test_without_relevance_it_is_the_triplet():
    scores, positives = random_case(1)
    expected = hard_negative_triplet_loss(scores, positives, margin=0.3)
    assert LadderLoss(**SETTINGS)(scores, positives) == expected
    only = LadderLoss(margins=[0.3], thresholds=[], weights=[])
    assert only(scores, positives, relevance=grades_of(scores)) == expected


def test_a_positive_stands_on_top_whatever_its_relevance():
    scores, positives = random_case(0)
    relevance = grades_of(scores)
    low = relevance.masked_fill(positives, 0.0)
    loss = LadderLoss(**SETTINGS)
    assert loss(scores, positives, relevance=low) == loss(scores, positives, relevance=relevance)


def test_gradient():
    scores, positives = random_case(0)
    relevance = grades_of(scores)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: ladder_loss(s, positives, relevance=relevance, **SETTINGS), (scores,))


def test_relevance_receives_no_gradient_and_may_be_half():
    scores, positives = random_case(0)
    relevance = grades_of(scores).half().requires_grad_()
    loss = ladder_loss(scores.requires_grad_(), positives, relevance=relevance)
    loss.backward()
    assert relevance.grad is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margins": []}, "margins, thresholds, weights: 0, 1 and 1 of them"),
        ({"thresholds": [0.5, 0.3]}, "margins, thresholds, weights: 2, 2 and 1"),
        ({"weights": []}, "margins, thresholds, weights: 2, 1 and 0"),
        ({"margins": [0.2, -0.1]}, r"margins\[1\]: -0.1"),
        ({"weights": [float("inf")]}, r"weights\[0\]: inf"),
        ({"thresholds": [float("nan")]}, r"thresholds\[0\]: nan"),
        ({**SETTINGS, "thresholds": [0.3, 0.7]}, r"thresholds: \[0.3, 0.7\], expected each below"),
        ({"reduction": "none"}, "reduction: 'none'"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LadderLoss(**kwargs)
    with pytest.raises(ValueError, match=message):
        ladder_loss(torch.eye(2), **kwargs)


def test_bad_relevance():
    with pytest.raises(ValueError, match=r"relevance: shape \(2, 3\), expected that of scores, \(2, 2\)"):
        ladder_loss(torch.eye(2), relevance=torch.zeros(2, 3))
    with pytest.raises(TypeError, match=r"relevance: torch\.int64"):
        ladder_loss(torch.eye(2), relevance=torch.zeros(2, 2, dtype=torch.int64))
