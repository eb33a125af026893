import math

import pytest
import torch
from helpers_robust_losses import close, reference, robust
from helpers_score_losses import random_case

from itmatch.losses import (
    HardNegativeTripletLoss,
    Matches,
    ScoreLoss,
    SoftMarginTripletLoss,
    clean_probability,
    soft_margin_triplet_loss,
)
from itmatch.losses.noisy.soft_margin import _lost_on_average, predicted_labels
from itmatch.spec import build

CURVES = {
    "exponential": lambda y: (10**y - 1) / 9,
    "linear": lambda y: y,
    "sine": lambda y: (math.sin(math.pi * (y - 0.5)) + 1) / 2,
}
PUBLIC = {"exponential": "exponential", "linear": "linear", "sine": "sin"}
MATRICES = ["random", "perfect", "several", "collapsed"]


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("negatives", ["hardest", "mean"])
def test_equals_the_formula(curve, seed, negatives):
    scores, positives = random_case(seed)
    labels = torch.rand(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels[:2] = torch.tensor([0.0, 1.0])
    expected = 0.0
    for i, t in positives.nonzero().tolist():
        margin = 0.3 * CURVES[curve](labels[t].item())
        row = [scores[i, k].item() for k in range(9) if not positives[i, k]]
        column = [scores[k, t].item() for k in range(5) if not positives[k, t]]
        for others, count in ((row, 9), (column, 5)):
            hinges = [max(0.0, margin + s - scores[i, t].item()) for s in others]
            expected += max(hinges, default=0.0) if negatives == "hardest" else sum(hinges) / count
    settings = {"labels": labels, "margin": 0.3, "curve": curve, "negatives": negatives}
    value = soft_margin_triplet_loss(scores, positives, **settings)
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("negatives", ["hardest", "mean"])
@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("matrix", MATRICES)
def test_agrees_with_the_public_code(matrix, curve, negatives):
    name = f"ncr.{matrix}.{PUBLIC[curve]}.column.{negatives}"
    scores, _, expected, gradient = robust(matrix, f"{name}.loss", f"{name}.grad")
    settings = {"labels": reference("ncr.labels"), "curve": curve, "margins": "image", "negatives": negatives}
    value = soft_margin_triplet_loss(scores, **settings)
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)


@pytest.mark.parametrize("matrix", MATRICES)
def test_both_forms_of_the_public_code(matrix):
    """Labels of shape (B, 1) give the margins of the rows in both directions, those of shape (B,) of the columns."""
    name = f"ncr.{matrix}.exponential.row.hardest"
    scores, _, rows, columns, expected = robust(
        matrix, f"ncr.{matrix}.exponential.column.hardest.grad", f"{name}.grad", f"{name}.loss"
    )
    labels = reference("ncr.labels")
    soft_margin_triplet_loss(scores, labels=labels, margins="image").backward()
    image, scores.grad = scores.grad, None
    value = soft_margin_triplet_loss(scores.T, labels=labels, margins="image")
    value.backward()
    close(image, rows)
    close(value, expected)
    close(scores.grad, columns)


@pytest.mark.parametrize("matrix", MATRICES)
def test_what_pairs_lose_and_what_is_predicted_agree_with_the_public_code(matrix):
    scores, _, lost, predicted = robust(matrix, f"ncr.{matrix}.per_pair_loss", f"ncr.{matrix}.predict_clamped")
    average = _lost_on_average(scores.detach(), torch.eye(len(scores), dtype=torch.bool), 0.2)
    close(average, lost)
    close(predicted_labels(average, 0.2), predicted)


@pytest.mark.parametrize("matrix", MATRICES)
def test_warmup_agrees_with_the_public_code(matrix):
    scores, _, expected, gradient = robust(matrix, f"ncr.{matrix}.warmup.loss", f"ncr.{matrix}.warmup.grad")
    value = SoftMarginTripletLoss()(scores)
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)


@pytest.mark.parametrize("matrix", MATRICES)
def test_labels_are_the_diagonal_of_the_matrix_of_the_public_code(matrix):
    """There a fault of shapes gives each pair of a batch the label of a row and a prediction of a column."""
    loss, places, clean = SoftMarginTripletLoss(), torch.arange(12), reference("ncr.clean_probability")
    loss.clean.write(places, clean)
    average, right = reference(f"ncr.{matrix}.per_pair_loss"), clean > 0.5
    expected = reference(f"ncr.{matrix}.labels_as_in_training")
    close(loss.labels(places, average)[right], expected.diagonal()[right])
    if matrix == "random":
        close(loss.labels(places, average)[right], reference("ncr.training.labelled_targets").diagonal()[right])


def test_labels_are_those_of_one_network():
    loss = SoftMarginTripletLoss()
    clean, predicted = reference("ncr.clean_probability"), reference("ncr.training.predict_a")
    places = torch.arange(12)
    loss.clean.write(places, clean)
    average = reference("ncr.random.per_pair_loss")
    right = clean > 0.5
    close(loss.labels(places, average)[right], (clean + (1 - clean) * predicted)[right])
    close(loss.labels(places, average)[~right], predicted[~right])


def test_learns_which_pairs_are_wrong():
    wrong = torch.arange(40) % 4 == 0
    scores = torch.where(torch.eye(40, dtype=torch.bool), torch.where(wrong, 0.1, 0.8), 0.3)
    loss, triplet = SoftMarginTripletLoss(warmup_epochs=1), HardNegativeTripletLoss()
    places = torch.arange(40) + 7
    matches = Matches(scores, captions=places)
    loss.of(matches)  # the first epoch
    loss.set_epoch(1)
    assert torch.equal(loss.clean.read(places) > 0.5, ~wrong)
    assert 0 < loss.of(matches) < triplet(scores)
    assert torch.equal(loss.labels(places, loss.lost.read(places)) > 0.5, ~wrong)


def test_an_epoch_is_judged_once_and_again_after_a_resume():
    loss = SoftMarginTripletLoss(warmup_epochs=1)
    scores = torch.rand(8, 8, generator=torch.Generator().manual_seed(3))
    matches = Matches(scores, captions=torch.arange(8))
    loss.of(matches)
    loss.set_epoch(1)
    judged = loss.clean.read(torch.arange(8)).clone()
    loss.of(Matches(scores.flip(0), captions=torch.arange(8)))
    resumed = SoftMarginTripletLoss(warmup_epochs=1)
    resumed.load_state_dict(loss.state_dict())
    for one in (loss, resumed):
        one.set_epoch(1)  # in the middle of the epoch
        assert torch.equal(one.clean.read(torch.arange(8)), judged)
    loss.set_epoch(2)
    assert not torch.equal(loss.clean.read(torch.arange(8)), judged)
    assert torch.equal(loss.clean.read(torch.arange(8)), clean_probability(loss.lost.values[:8]))


def test_without_places_or_in_evaluation_all_pairs_are_right():
    loss, scores = SoftMarginTripletLoss(warmup_epochs=1), torch.rand(6, 6)
    loss.clean.write(torch.arange(6), torch.zeros(6))
    loss.epoch = 1
    expected = HardNegativeTripletLoss()(scores)
    torch.testing.assert_close(loss(scores), expected)
    torch.testing.assert_close(loss.eval()(scores, None, torch.arange(6)), expected)
    assert not len(loss.lost.values)
    assert loss.train()(scores, None, torch.arange(6)) != expected


def test_settings_are_recorded_and_memories_are_state():
    loss = SoftMarginTripletLoss(0.1, "sine", "image", 3)
    assert build(loss.spec, ScoreLoss).spec == loss.spec
    assert set(loss.state_dict()) == {"lost.values", "clean.values", "fitted_epoch"}


def test_bad_arguments():
    for settings, named in (({"margin": -1}, "margin"), ({"curve": "x"}, "curve"), ({"warmup_epochs": 0}, "warmup")):
        with pytest.raises(ValueError, match=named):
            SoftMarginTripletLoss(**settings)
    with pytest.raises(ValueError, match=r"labels: shape \(2,\), expected one per caption, \(3,\)"):
        soft_margin_triplet_loss(torch.eye(3), labels=torch.ones(2))
    with pytest.raises(ValueError, match="negatives: 'all', expected 'hardest' or 'mean'"):
        soft_margin_triplet_loss(torch.eye(3), negatives="all")
    with pytest.raises(ValueError, match="expected a number from 0 to 1"):
        soft_margin_triplet_loss(torch.eye(3), labels=torch.tensor([0.0, 1.5, 1.0]))
