import math

import pytest
import torch
from helpers_sets import close, leaf, reference

from itmatch.batch import Fragments
from itmatch.losses import (
    DiscrepancyLoss,
    HardNegativeTripletLoss,
    Matches,
    Negatives,
    Objective,
    SetDiversityLoss,
    SetUniformityLoss,
    SoftMarginTripletLoss,
    set_diversity_loss,
    set_uniformity_loss,
)
from itmatch.losses.hinge.negatives import rule_of
from itmatch.nn import SetSimilarity

FUNCTIONS = [set_uniformity_loss, set_diversity_loss]


def uniform(sets, temperature):
    found = []
    for one in sets:
        one = torch.nn.functional.normalize(one, dim=1)
        pairs = [(k, n) for k in range(len(one)) for n in range(k)]
        if pairs:
            found.append(sum(math.exp(-(one[k] - one[n]).square().sum() / temperature) for k, n in pairs) / len(pairs))
    return sum(found) / len(found)


def diverse(sets):
    found = []
    for one in sets:
        one = torch.nn.functional.normalize(one, dim=1)
        if len(one) > 1:
            squares = [(one[k] @ one[n]).item() ** 2 for k in range(len(one)) for n in range(len(one)) if k != n]
            found.append(math.sqrt(sum(squares)) / len(one) ** 2)
    return sum(found) / len(found)


def ragged():
    torch.manual_seed(0)
    sets, mask = torch.randn(4, 3, 5, dtype=torch.float64), torch.arange(3) < torch.tensor([3, 1, 2, 3])[:, None]
    return sets, mask, [one[real] for one, real in zip(sets, mask, strict=True)]


def test_equals_the_formula_and_ignores_padding():
    sets, mask, each = ragged()
    dirty = sets.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    value = set_uniformity_loss(dirty, mask, temperature=0.3)
    assert value.item() == pytest.approx(uniform(each, 0.3), rel=1e-9)
    other = set_diversity_loss(dirty, mask)
    assert other.item() == pytest.approx(diverse(each), rel=1e-9)
    (value + other).backward()
    assert dirty.grad.isfinite().all()
    assert not dirty.grad[~mask].any()


def test_uniformity_agrees_with_the_public_code():
    for side in ("image", "text"):
        residuals = leaf("sets.npz", f"loss.{side}_residuals")
        value = set_uniformity_loss(residuals)
        close(value, reference("sets.npz", f"uniformity.{side}_residuals"))
        if side == "image":
            value.backward()
            close(residuals.grad, reference("sets.npz", "uniformity.grad.image_residuals"))
    sets = reference("sets.npz", "loss.image_sets")
    close(set_uniformity_loss(sets), reference("sets.npz", "uniformity.image_sets_t2"))
    close(set_uniformity_loss(sets, temperature=0.2), reference("sets.npz", "uniformity.image_sets_t5"))


def test_diversity_agrees_with_the_public_code():
    residuals = leaf("sets.npz", "loss.image_residuals")
    value = set_diversity_loss(residuals)
    value.backward()
    close(value, reference("sets.npz", "diversity.image_residuals"))
    close(residuals.grad, reference("sets.npz", "diversity.grad.image_residuals"))
    close(set_diversity_loss(reference("sets.npz", "loss.image_sets")), reference("sets.npz", "diversity.image_sets"))


def batch():
    """The sets of a batch with two captions an image, and its positives."""
    image, text = leaf("sets.npz", "loss.image_sets"), leaf("sets.npz", "loss.text_sets")
    positives = torch.arange(len(text)) // 2 == torch.arange(len(image))[:, None]
    return image, text, positives


def agree_in_parts(name, scores, positives, rule, discrepancy, uniformity):
    """What the images lose, what the captions lose, and the two regularisers, each alone."""
    for way, rows, mask in (("i2t", scores, positives), ("t2i", scores.T, positives.T)):
        lost = rule_of(rule).of_rows(rows, mask, 0.2, diagonal=False)
        close(lost.sum() / positives.sum(), reference("sets.npz", f"loss.{name}.{way}"))
    close(discrepancy, reference("sets.npz", f"loss.{name}.mmd"))
    close(uniformity, reference("sets.npz", f"loss.{name}.uniformity"))


def test_the_whole_objective_agrees_with_the_public_code():
    image, text, positives = batch()
    sides = Fragments(image), Fragments(text)
    triplet = HardNegativeTripletLoss(0.2, reduction="mean")
    objective = Objective(
        {"triplet": triplet, "discrepancy": DiscrepancyLoss(), "uniformity": SetUniformityLoss()},
        weights={"discrepancy": 0.01, "uniformity": 0.01},
    )
    matches = Matches(SetSimilarity("smooth_chamfer")(*sides), positives, fragments=sides)
    value, parts = objective.of(matches), objective.values(matches)
    value.backward()
    name = "loss.hardest_uniform_on_sets"
    close(value, reference("sets.npz", f"{name}.total"))
    regularisers = parts["discrepancy"], parts["uniformity"]
    agree_in_parts("hardest_uniform_on_sets", matches.scores, positives, "hardest", *regularisers)
    for side, sets in (("image", image), ("text", text)):
        close(tangent(sets.grad, sets), tangent(reference("sets.npz", f"{name}.grad.{side}_sets"), sets))


def tangent(gradient, sets):
    """Without the part along the vectors, which are divided by their lengths here, and there are given so."""
    return gradient - (gradient * sets).sum(2, keepdim=True) * sets.detach()


def test_the_mean_over_all_negatives_is_that_of_the_public_code():
    """The warm-up of NCR is the same but for the positives, which it counts as negatives of loss 0."""
    image, text, positives = batch()
    residuals = [leaf("sets.npz", f"loss.{side}_residuals") for side in ("image", "text")]
    sides = Fragments(image), Fragments(text)
    triplet = SoftMarginTripletLoss(0.2)(SetSimilarity("smooth_chamfer")(*sides), positives)
    value = triplet / len(text) * len(image) / (len(image) - 1)
    close(value, sum(reference("sets.npz", f"loss.mean.{way}") for way in ("i2t", "t2i")))
    discrepancy = DiscrepancyLoss().of(Matches(fragments=sides))
    uniformity = SetUniformityLoss().of(Matches(fragments=tuple(map(Fragments, residuals))))
    close(discrepancy, reference("sets.npz", "loss.mean.mmd"))
    close(uniformity, reference("sets.npz", "loss.mean.uniformity"))
    value = value + 0.01 * (discrepancy + uniformity)
    value.backward()
    close(value, reference("sets.npz", "loss.mean.total"))
    for side, sets, residual in (("image", image, residuals[0]), ("text", text, residuals[1])):
        close(sets.grad, reference("sets.npz", f"loss.mean.grad.{side}_sets"))
        close(residual.grad, reference("sets.npz", f"loss.mean.grad.{side}_residuals"))


class MeanOfCut(Negatives):
    """DivE's semi-hard rule: the mean of the hinges of the batch that are above 0, cut at the margin."""

    def chosen(self, hinge, scores, own, negative):
        """Each pair's part of the mean, times the number of pairs, by which the loss divides."""
        cut = hinge.clamp(max=0.2).masked_fill(~negative, 0)
        return cut.sum(1) * len(own) / cut.count_nonzero().clamp(min=1)


@pytest.mark.parametrize(
    ("name", "kind", "rule", "diversity"),
    [
        ("hardest", "smooth_chamfer", "hardest", 0.0),
        ("hardest_diversity", "smooth_chamfer", "hardest", 0.1),
        ("chamfer", "chamfer", "hardest", 0.0),
        ("max", "max", "hardest", 0.0),
        ("semi_hard", "smooth_chamfer", MeanOfCut(), 0.0),
    ],
)
def test_the_published_objective_is_made_of_the_same_terms(name, kind, rule, diversity):
    """There uniformity and diversity are of what the slots have found."""
    image, text, positives = batch()
    sides = Fragments(image), Fragments(text)
    residuals = [leaf("sets.npz", f"loss.{side}_residuals") for side in ("image", "text")]
    found = tuple(Fragments(one) for one in residuals)
    scores = SetSimilarity(kind)(*sides)
    value = HardNegativeTripletLoss(0.2, rule, "mean")(scores, positives)
    regularisers = DiscrepancyLoss().of(Matches(fragments=sides)), SetUniformityLoss().of(Matches(fragments=found))
    agree_in_parts(name, scores, positives, rule, *regularisers)
    value = value + 0.01 * sum(regularisers)
    value = value + diversity * SetDiversityLoss().of(Matches(fragments=found))
    value.backward()
    close(value, reference("sets.npz", f"loss.{name}.total"))
    for side, sets, residual in (("image", image, residuals[0]), ("text", text, residuals[1])):
        close(sets.grad, reference("sets.npz", f"loss.{name}.grad.{side}_sets"))
        close(residual.grad, reference("sets.npz", f"loss.{name}.grad.{side}_residuals"))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradcheck(function):
    sets, mask, _ = ragged()
    assert torch.autograd.gradcheck(lambda x: function(x, mask), sets.requires_grad_())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_edges(function):
    one = torch.randn(2, 1, 3, requires_grad=True)
    value = function(one)
    value.backward()
    assert value == 0
    assert not one.grad.any()
    apart = torch.eye(3)[None].requires_grad_()
    value = function(apart)
    value.backward()
    assert value < 0.02
    assert apart.grad.isfinite().all()
    empty = torch.zeros(1, 2, 3, requires_grad=True)
    function(empty).backward()
    assert empty.grad.isfinite().all()
    half = torch.randn(3, 4, 5).half()
    with torch.autocast("cpu", torch.bfloat16):
        found = function(half)
    torch.testing.assert_close(found, function(half.float()))
    assert torch.isnan(function(torch.full((1, 2, 2), torch.nan)))
    with pytest.raises(ValueError, match=r"sets: shape \(2, 3\), expected \(sets, vectors, size\)"):
        function(torch.ones(2, 3))
