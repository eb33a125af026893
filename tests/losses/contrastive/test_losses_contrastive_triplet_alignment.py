import math

import pytest
import torch
from helpers_robust_losses import MATRICES, close, reference, robust
from helpers_score_losses import both_directions, random_case, split
from torch.nn.functional import normalize

from itmatch.losses import HardNegativeTripletLoss, TripletAlignmentLoss, triplet_alignment_loss


def naive(scores, positives, margin, temperature, *, mean, hardest=False):
    total = 0.0
    for rows, masks in both_directions(scores, positives):
        lost, anchors = 0.0, 0
        for row, mask in zip(rows, masks, strict=True):
            own, others = split(row, mask)
            anchors += bool(own)
            if own and others:
                weights = [math.exp(s / temperature) for s in own]
                pull = sum(w * s for w, s in zip(weights, own, strict=True)) / sum(weights)
                smooth = temperature * math.log(sum(math.exp(s / temperature) for s in others))
                push = max(others) if hardest else smooth
                lost += max(0.0, margin - pull + push)
        total += lost / anchors if mean else lost
    return total


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("maximum", ["smooth", "hardest"])
def test_equals_the_formula(seed, reduction, maximum):
    scores, positives = random_case(seed)
    expected = naive(scores, positives, 0.2, 0.1, mean=reduction == "mean", hardest=maximum == "hardest")
    options = {"margin": 0.2, "temperature": 0.1, "reduction": reduction, "maximum": maximum}
    value = triplet_alignment_loss(scores, positives, **options)
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("temperature", "margin"), [(0.015, 0.1), (0.02, 0.1), (0.05, 0.2), (0.1, 0.3)])
def test_agrees_with_the_public_code(matrix, temperature, margin):
    name = f"tal.{matrix}.tau{temperature}_margin{margin}"
    scores, positives, expected, gradient = robust(matrix, f"{name}.loss", f"{name}.grad")
    value = TripletAlignmentLoss(margin, temperature)(scores, positives)
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)
    close(of_pairs(scores, positives, margin, temperature, "smooth"), reference(f"{name}.per"))


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("temperature", "margin"), [(0.02, 0.2), (0.05, 0.1)])
def test_the_hardest_negative_agrees_with_the_public_code_of_trl(matrix, temperature, margin):
    """There a positive is a negative of score 0 too: so are here a further image and a further caption, of no pair."""
    name = f"trl.{matrix}.tau{temperature}_margin{margin}"
    scores, positives, expected, gradient = robust(matrix, f"{name}.loss", f"{name}.grad")
    loss = TripletAlignmentLoss(margin, temperature, maximum="hardest")
    value = loss(bordered(scores), bordered(positives))
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)
    close(of_pairs(scores, positives, margin, temperature, "hardest"), reference(f"{name}.per"))
    if matrix == "negative":
        assert loss(scores, positives) < value
    else:
        close(loss(scores, positives), expected)


def bordered(matrix):
    """The matrix with a row and a column of zeros."""
    return torch.nn.functional.pad(matrix, (0, 1, 0, 1))


def of_pairs(scores, positives, margin, temperature, maximum):
    """What the row and the column of each pair lose, as the public code has it."""
    if maximum == "hardest":
        scores, positives = bordered(scores), bordered(positives)
    settings = {"margin": margin, "temperature": temperature, "maximum": maximum, "reduction": "none"}
    lost = triplet_alignment_loss(scores, positives, **settings)
    assert lost.shape == (2 * len(scores),)
    return lost.view(2, -1)[:, : len(scores) - (maximum == "hardest")].sum(0)


@pytest.mark.parametrize(("name", "maximum"), [("TAL", "smooth"), ("TRL", "hardest")])
def test_labels_of_pairs_agree_with_the_public_code_of_rde(name, maximum):
    ids, label = reference("rbs.ids"), reference("rbs.label")
    for part, end in (("global", ""), ("tokens", "_tokens")):
        image, text = (reference(f"rbs.{side}{end}").clone().requires_grad_() for side in ("image", "text"))
        scores = normalize(image, dim=1) @ normalize(text, dim=1).T
        value = (label * of_pairs(scores, ids[:, None] == ids, 0.1, 0.02, maximum)).sum()
        close(value, reference(f"rbs.{name}.{part}"))
        if part == "global":
            value.backward()
            close(image.grad, reference(f"rbs.{name}.grad.image"))
            close(text.grad, reference(f"rbs.{name}.grad.text"))
    assert set(label.tolist()) == {0, 1}


def test_gradient_does_not_reach_the_weights_of_positives():
    scores = torch.tensor([[0.9, 0.1, 0.5]], requires_grad=True)
    positives = torch.tensor([[True, True, False]])
    triplet_alignment_loss(scores, positives, margin=1.0, temperature=0.5).backward()
    first = 1 / (
        1 + math.exp(-0.8 / 0.5)
    )  # the row alone: a column has one image, so it is not an anchor with negatives
    assert scores.grad[0].tolist() == pytest.approx([-first, first - 1, 1.0], abs=1e-6)


@pytest.mark.parametrize("maximum", ["smooth", "hardest"])
def test_gradcheck(maximum):
    scores, positives = random_case(2)
    positives[1:, 2:] = False  # one positive in each row and column: their weights, which are constant, are 1
    positives[0] = torch.arange(9) == 0
    scores.requires_grad_()
    settings = {"margin": 3.0, "temperature": 0.2, "maximum": maximum}
    assert torch.autograd.gradcheck(lambda s: triplet_alignment_loss(s, torch.eye(5, 9).bool(), **settings), scores)


def test_becomes_the_hardest_negative():
    scores = random_case(0, 6, 6)[0]
    triplet = HardNegativeTripletLoss(0.2)(scores)
    assert triplet_alignment_loss(scores, margin=0.2, temperature=1e-4).item() == pytest.approx(
        triplet.item(), abs=1e-3
    )
    assert triplet_alignment_loss(scores, margin=0.2, temperature=0.1) > triplet


def test_small_temperatures_stay_finite():
    scores = torch.tensor([[1.0, 0.99], [0.99, 1.0]], requires_grad=True)
    loss = TripletAlignmentLoss(temperature=1e-3)(scores)
    loss.backward()
    assert loss.item() == pytest.approx(4 * 0.09, rel=1e-4)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"margin": -0.1}, "margin"),
        ({"temperature": 0}, "temperature"),
        ({"reduction": "none"}, "reduction"),
        ({"maximum": "soft"}, "maximum"),
    ],
)
def test_bad_settings(settings, named):
    with pytest.raises(ValueError, match=named):
        TripletAlignmentLoss(**settings)


def test_numbers_of_the_anchors_make_the_sum_and_the_mean():
    scores, positives = random_case(0)
    each = triplet_alignment_loss(scores, positives, reduction="none")
    assert each.shape == (5 + 9,)
    assert each.sum().item() == pytest.approx(triplet_alignment_loss(scores, positives).item(), rel=1e-12)
    mean = each[:5].sum() / positives.any(1).sum() + each[5:].sum() / positives.any(0).sum()
    assert mean.item() == pytest.approx(triplet_alignment_loss(scores, positives, reduction="mean").item(), rel=1e-12)
    with pytest.raises(ValueError, match="reduction"):
        triplet_alignment_loss(scores, positives, reduction="all")
