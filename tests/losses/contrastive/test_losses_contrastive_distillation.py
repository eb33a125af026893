import math

import pytest
import torch
from helpers_robust_losses import close, robust
from helpers_score_losses import both_directions, random_case

from itmatch.losses import DistillationLoss, HardNegativeTripletLoss, Loss, Matches, Objective, distillation_loss
from itmatch.spec import build


def naive(scores, anchor, temperature, *, reverse):
    total = 0.0
    for rows, others in both_directions(scores, anchor):
        for row, other in zip(rows, others, strict=True):
            own, wanted = ([math.exp(s / temperature) for s in line] for line in (row, other))
            p, a = [w / sum(own) for w in own], [w / sum(wanted) for w in wanted]
            first, second = (p, a) if reverse else (a, p)
            total += sum(x * math.log(x / y) for x, y in zip(first, second, strict=True)) / len(rows)
    return total


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("images", [5, 9])
def test_equals_the_formula(images, reverse):
    scores, anchor = random_case(1, images)[0], random_case(2, images)[0]
    value = distillation_loss(scores, anchor=anchor, temperature=0.3, reverse=reverse)
    assert value.item() == pytest.approx(naive(scores, anchor, 0.3, reverse=reverse), rel=1e-10)


@pytest.mark.parametrize(("form", "reverse"), [("mutual", False), ("dino", False), ("dino_kl", True)])
@pytest.mark.parametrize("matrix", ["random", "perfect", "several"])
def test_agrees_with_the_public_code_of_dbl(matrix, form, reverse):
    name = f"dbl.{matrix}.{form}"
    scores, _, anchor, expected, gradient = robust(
        matrix, f"dbl.{matrix}.anchor_scores", f"{name}.loss", f"{name}.grad"
    )
    value = DistillationLoss(reverse=reverse).of(Matches(scores, anchors=anchor[None]))
    value.backward()
    close(scores.grad, gradient)
    if form == "dino":  # with what the anchor does not know
        shares = [(10 * side).log_softmax(1) for side in (anchor, anchor.T)]
        value = value - sum((one.exp() * one).sum(1).mean() for one in shares)
    close(value, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradcheck_and_no_gradient_for_the_anchor(reverse):
    scores, anchor = random_case(1)[0].requires_grad_(), random_case(2)[0].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: distillation_loss(s, anchor=anchor.detach(), temperature=0.4, reverse=reverse), scores
    )
    distillation_loss(scores, anchor=anchor, reverse=reverse).backward()
    assert anchor.grad is None


def test_mean_over_the_anchors_as_a_term_of_an_objective():
    scores, positives = random_case(0)
    anchors = torch.stack([random_case(seed)[0] for seed in (4, 6)])
    lost = [distillation_loss(scores, anchor=anchor) for anchor in anchors]
    terms = {"triplet": HardNegativeTripletLoss(), "distillation": DistillationLoss()}
    objective = Objective(terms, weights={"distillation": 0.5})
    assert {"scores", "anchors", "positives"} <= objective.needs | objective.uses
    expected = HardNegativeTripletLoss()(scores, positives) + 0.25 * (lost[0] + lost[1])
    torch.testing.assert_close(objective.of(Matches(scores, positives, anchors=anchors)), expected)


def test_one_pair_and_equal_and_extreme_scores():
    loss = DistillationLoss()
    assert loss(torch.tensor([[0.3]]), anchors=torch.tensor([[[0.9]]])).item() == 0
    same = torch.full((3, 4), 0.2, requires_grad=True)
    value = loss(same, anchors=torch.zeros(1, 3, 4))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert same.grad.abs().max() < 1e-6
    far = torch.tensor([[50.0, -50.0], [-50.0, 50.0]], requires_grad=True)
    for reverse in (False, True):
        value = DistillationLoss(0.01, reverse=reverse)(far, anchors=-far[None].detach())
        value.backward()
        assert value.isfinite()
        assert far.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    scores, anchor = (random_case(seed, 16, 24)[0].to(dtype) for seed in (1, 2))
    with torch.autocast("cpu", torch.bfloat16):
        value = distillation_loss(scores, anchor=anchor)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, distillation_loss(scores.float(), anchor=anchor.float()))
    assert distillation_loss(scores.double(), anchor=anchor).dtype == torch.float64


def test_settings_and_what_does_not_fit():
    loss = DistillationLoss(0.2, reverse=True)
    assert build(loss.spec, Loss).spec == loss.spec
    with pytest.raises(ValueError, match="temperature"):
        DistillationLoss(0)
    with pytest.raises(ValueError, match=r"anchor: shape \(2, 3\), expected that of scores, \(2, 2\)"):
        distillation_loss(torch.eye(2), anchor=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="anchors: None, but DistillationLoss reads it"):
        loss(torch.eye(2))
    with pytest.raises(ValueError, match="anchors: none, but DistillationLoss reads them"):
        loss(torch.eye(2), anchors=torch.zeros(0, 2, 2))
    assert torch.isnan(loss(torch.eye(2), anchors=torch.full((1, 2, 2), torch.nan)))
