import math

import pytest
import torch
from helpers_score_losses import both_directions, grades_of, random_case

from itmatch.losses import SmoothNDCGLoss, smooth_ndcg_loss


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def naive(scores, relevance, temperature):
    total = 0.0
    for rows, grades in both_directions(scores, relevance):
        anchors = []
        for row, grade in zip(rows, grades, strict=True):
            gains = [2**g - 1 for g in grade]
            if not any(gains):
                continue
            achieved = 0.0
            for t, gain in enumerate(gains):
                rank = 1.0
                for u in range(len(row)):
                    if grade[u] != grade[t]:
                        rank += sigmoid((row[u] - row[t]) / temperature)
                    elif row[u] > row[t] or (row[u] == row[t] and u < t):
                        rank += 1
                achieved += gain / math.log2(1 + rank)
            best = sum(g / math.log2(2 + k) for k, g in enumerate(sorted(gains, reverse=True)))
            anchors.append(1 - achieved / best)
        total += sum(anchors) / len(anchors) / 2
    return total


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    loss = SmoothNDCGLoss(0.2)
    assert loss(scores, positives).item() == pytest.approx(naive(scores, positives.double(), 0.2), rel=1e-10)
    relevance = grades_of(scores, seed)
    expected = naive(scores, relevance.masked_fill(positives, 1), 0.2)
    assert loss(scores, positives, relevance=relevance).item() == pytest.approx(expected, rel=1e-10)


def test_none_is_the_diagonal():
    scores, positives = random_case(0, 6, 6)
    assert smooth_ndcg_loss(scores, positives).item() == pytest.approx(
        naive(scores, positives.double(), 0.1), rel=1e-10
    )
    assert smooth_ndcg_loss(scores).item() == pytest.approx(naive(scores, torch.eye(6).double(), 0.1), rel=1e-10)


@pytest.mark.parametrize("graded", [False, True])
def test_tends_to_ndcg(graded):
    scores, positives = random_case(3)
    relevance = grades_of(scores) if graded else None
    grades = (grades_of(scores) if graded else torch.zeros_like(scores)).masked_fill(positives, 1)
    expected = 0.0
    for s, g in ((scores, grades), (scores.T, grades.T)):
        gains = 2**g - 1
        discount = 1 / torch.log2(2 + torch.arange(s.shape[1], dtype=s.dtype))
        achieved = (gains.gather(1, s.argsort(dim=1, descending=True)) * discount).sum(1)
        best = (gains.sort(dim=1, descending=True).values * discount).sum(1)
        expected += (1 - achieved / best)[best > 0].mean() / 2
    loss = smooth_ndcg_loss(scores, positives, relevance=relevance, temperature=1e-6)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("graded", [False, True])
def test_gradient(graded):
    scores, positives = random_case(0)
    relevance = grades_of(scores) if graded else None
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: smooth_ndcg_loss(s, positives, relevance=relevance), (scores,))


def test_captions_of_the_same_image_do_not_push_each_other():
    scores = torch.tensor([[0.5, 0.6, 0.0, 0.1]], requires_grad=True)
    positives = torch.tensor([[True, True, False, False]])
    smooth_ndcg_loss(scores, positives).backward()
    assert (scores.grad[positives] < 0).all()  # both up, though the second stands above the first
    assert (scores.grad[~positives] > 0).all()


def test_settled_rows_are_exactly_zero():
    scores = torch.randn(3, 7, requires_grad=True)
    loss = smooth_ndcg_loss(scores, torch.ones(3, 7, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(scores.grad, torch.zeros(3, 7))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_settings(temperature):
    with pytest.raises(ValueError, match="temperature"):
        SmoothNDCGLoss(temperature)
    with pytest.raises(ValueError, match="temperature"):
        smooth_ndcg_loss(torch.eye(2), temperature=temperature)


def test_bad_relevance():
    with pytest.raises(ValueError, match=r"relevance: shape \(2, 3\), expected that of scores, \(2, 2\)"):
        smooth_ndcg_loss(torch.eye(2), relevance=torch.zeros(2, 3))
    with pytest.raises(TypeError, match=r"relevance: torch\.int64"):
        smooth_ndcg_loss(torch.eye(2), relevance=torch.zeros(2, 2, dtype=torch.int64))
