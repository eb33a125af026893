import math
from itertools import product

import pytest
import torch
from helpers_robust_losses import close, is_reference, reference, robust
from helpers_score_losses import random_case

from itmatch.losses import ComplementaryLoss, Matches, ScoreLoss, complementary_loss
from itmatch.spec import build

MATRICES = ["random", "perfect", "collapsed", "several"]
STATES = {  # what the loss is set to, and the epoch
    "frozen": ({}, 0),
    "last_warm": ({}, 1),
    "last_warm_later_schedule": ({}, 0),  # of a further model of the authors, which keeps the memory as it is
    "refined": ({}, 2),
    "refined_tau0.1": ({"temperature": 0.1}, 2),
    "refined_alpha0.5": ({"momentum": 0.5}, 2),
    "not_confident": ({"threshold": 0.0}, 2),
    "without_memory": ({"momentum": 0.0, "threshold": 0.0}, 2),
}


def naive(scores, positives, labels, temperature, weight):
    total, pairs = 0.0, positives.nonzero().tolist()
    for i, t in pairs:
        y = labels[t].item()
        for line, own, mask in ((scores[i], t, positives[i]), (scores[:, t], i, positives[:, t])):
            kept = [k for k in range(len(line)) if k == own or not mask[k]]
            weights = {k: math.exp(line[k].item() / temperature) for k in kept}
            shares = {k: w / sum(weights.values()) for k, w in weights.items()}
            others = sum(math.tan(p) for k, p in shares.items() if k != own)
            total += -y * math.log(shares[own])
            total += weight * others / (others + math.tan(shares[own])) ** (1 - y)
    return total / len(pairs)


@pytest.mark.parametrize("images", [5, 9])
def test_equals_the_formula(images):
    scores, positives = random_case(1, images)
    labels = torch.linspace(0, 1, 9, dtype=torch.float64)
    value = complementary_loss(scores, positives, labels=labels, temperature=0.5, weight=2.0)
    assert value.item() == pytest.approx(naive(scores, positives, labels, 0.5, 2.0), rel=1e-12)


CASES = [
    case for case in product(MATRICES, STATES, ["ones", "mixed", "low"]) if is_reference(f"crcl.{'.'.join(case)}.loss")
]


def test_every_state_is_compared():
    assert {state for _, state, _ in CASES} == set(STATES)
    assert len(CASES) > 50


@pytest.mark.parametrize(("matrix", "state", "labels"), CASES)
def test_agrees_with_the_public_code(matrix, state, labels):
    name = f"crcl.{matrix}.{state}.{labels}"
    scores, _, expected, gradient, after = robust(matrix, f"{name}.loss", f"{name}.grad", f"{name}.memory_after")
    settings, epoch = STATES[state]
    loss, places = ComplementaryLoss(**settings), torch.arange(len(scores)) + 3
    loss.memory.write(places, reference(f"crcl.labels.{labels}"))
    loss.set_epoch(epoch)
    value = loss.of(Matches(scores, captions=places))
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)
    close(loss.memory.read(places), after)


@pytest.mark.parametrize(("matrix", "state", "labels"), CASES)
def test_both_terms_agree_with_the_public_code(matrix, state, labels):
    name, (settings, _) = f"crcl.{matrix}.{state}.{labels}", STATES[state]
    scores, _, active, complement, after = robust(
        matrix, f"{name}.active", f"{name}.complementary", f"{name}.memory_after"
    )
    before = reference(f"crcl.labels.{labels}")
    used = before.where(before >= 0.1, 0) if state == "last_warm" else after  # where the memory is not what was used
    options = {"temperature": settings.get("temperature", 0.05)}
    scores = scores.detach().double()
    close(complementary_loss(scores, weight=0, **options), active)
    both, first = (complementary_loss(scores, labels=used, weight=weight, **options) for weight in (1, 0))
    close(both - first, complement)


def test_gradcheck():
    scores, positives = random_case(1, 6, 6)
    positives |= torch.eye(6, dtype=torch.bool)
    labels = torch.linspace(0, 1, 6, dtype=torch.float64)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: complementary_loss(s, positives, labels=labels, temperature=0.4), scores)


def test_small_temperatures_stay_finite():
    scores = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    loss = complementary_loss(scores, temperature=1e-3, labels=torch.tensor([0.0, 0.5]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()


def test_wrong_pairs_lose_their_labels():
    scores = torch.where(torch.eye(8, dtype=torch.bool), 0.9, 0.0)
    scores[0, 0], scores[0, 5] = 0.0, 0.9  # caption 0 is of no image, caption 5 of two
    loss, places = ComplementaryLoss(warmup_epochs=1), torch.arange(8)
    for epoch in range(20):
        loss.set_epoch(epoch)
        loss.of(Matches(scores, captions=places))
    labels = loss.memory.read(places)
    assert labels[0] == 0
    assert (labels[1:5] > 0.9).all()


def test_evaluation_mode_learns_nothing():
    loss, scores = ComplementaryLoss(), torch.rand(4, 4)
    loss.memory.write(torch.arange(4), torch.zeros(4))
    before = loss.eval().memory.values.clone()
    assert loss.of(Matches(scores, captions=torch.arange(4))) == complementary_loss(scores)
    assert torch.equal(loss.memory.values, before)


def test_settings_are_recorded():
    loss = ComplementaryLoss(0.1, 2.0, 0.5, 0.2, 3)
    assert build(loss.spec, ScoreLoss).spec == loss.spec
    assert set(loss.state_dict()) == {"memory.values"}


def test_bad_arguments():
    for settings in ({"temperature": 0}, {"weight": -1}, {"momentum": 1.5}, {"threshold": -0.1}, {"warmup_epochs": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            ComplementaryLoss(**settings)
    with pytest.raises(ValueError, match="labels: shape"):
        complementary_loss(torch.eye(3), labels=torch.ones(2))
