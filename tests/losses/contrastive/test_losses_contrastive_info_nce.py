import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_robust_losses import MATRICES, close, reference, robust
from torch.nn.functional import cross_entropy, normalize

from itmatch.losses import InfoNCELoss, Matches, ScoreLoss, info_nce_loss
from itmatch.spec import build

REFERENCE = Path(__file__).parents[2] / "reference"


def naive_direction(logits, positives):
    anchors = []
    for row, mask in zip(logits.tolist(), positives.tolist(), strict=True):
        negatives = sum(math.exp(z) for z, positive in zip(row, mask, strict=True) if not positive)
        terms = [
            -math.log(math.exp(z) / (math.exp(z) + negatives))
            for z, positive in zip(row, mask, strict=True)
            if positive
        ]
        if terms:
            anchors.append(sum(terms) / len(terms))
    return sum(anchors) / len(anchors)


def random_case(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    positives = torch.rand(5, 9, generator=generator) < 0.3
    if seed % 2:
        positives[1] = True  # an image without negatives
        positives[:, 3] = True  # a caption without negatives
    else:
        positives[2] = False  # an image without positives
        positives[:, 5] = False  # a caption without positives
    return scores, positives


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    expected = (naive_direction(2 * scores, positives) + naive_direction(2 * scores.T, positives.T)) / 2
    assert info_nce_loss(scores, positives, temperature=0.5).item() == pytest.approx(expected, rel=1e-12)


def test_one_positive_each_is_cross_entropy():
    scores = torch.randn(7, 7, dtype=torch.float64)
    target = torch.arange(7)
    expected = (cross_entropy(scores / 0.1, target) + cross_entropy(scores.T / 0.1, target)) / 2
    assert InfoNCELoss(0.1)(scores).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["chan_basic", "chan_selfattention"])
def test_is_half_of_the_public_code(name):
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as reference:
        scores, expected = torch.from_numpy(reference["scores.VHA.mean"]), float(reference["loss.infonce_t0.01_m0"])
    assert 2 * InfoNCELoss(temperature=0.01)(scores).item() == pytest.approx(expected, rel=1e-5)


def test_gradient():
    scores, positives = random_case(0)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, k: info_nce_loss(s, positives, temperature=k), (scores, temperature))


def test_one_pair_has_loss_zero_and_a_finite_gradient():
    scores = torch.tensor([[0.3]], requires_grad=True)
    loss = InfoNCELoss()(scores)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.item() == 0


def test_extreme_scores_stay_finite():
    scores = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    loss = InfoNCELoss(0.01)(scores)
    loss.backward()
    assert loss.item() == pytest.approx(2e6)
    assert torch.isfinite(scores.grad).all()
    assert InfoNCELoss(0.01)(10 * torch.eye(4)).item() == 0


def test_other_positives_are_absent():
    index = torch.tensor([0, 0, 1, 1])
    positives = index[:, None] == index[None]
    scores = torch.zeros(4, 4).masked_fill(positives, 30.0)
    assert info_nce_loss(scores, positives, temperature=1.0).item() == pytest.approx(0, abs=1e-6)
    scores[0, 1] = 60.0
    assert info_nce_loss(scores, positives, temperature=1.0).item() == pytest.approx(0, abs=1e-6)


def test_order_does_not_matter():
    scores, positives = random_case(3)
    rows, columns = torch.randperm(5), torch.randperm(9)
    shuffled = info_nce_loss(scores[rows][:, columns], positives[rows][:, columns])
    assert shuffled.item() == pytest.approx(info_nce_loss(scores, positives).item(), rel=1e-12)


def test_collapse_value():
    for loss in (InfoNCELoss(0.05), InfoNCELoss(0.05, learnable=True)):
        assert loss.collapse_value(Matches(torch.eye(8))) == pytest.approx(math.log(8))
        assert loss(torch.full((8, 8), 0.3)).item() == pytest.approx(math.log(8), rel=1e-5)
    positives = torch.arange(6) // 3 == torch.arange(2)[:, None]
    value = InfoNCELoss().collapse_value(Matches(torch.zeros(2, 6), positives))
    assert value == pytest.approx((math.log(4) + math.log(2)) / 2)
    assert InfoNCELoss().collapse_value(Matches(torch.zeros(1, 1))) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = torch.randn(32, 32).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = InfoNCELoss(0.01)(scores)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(InfoNCELoss(0.01)(scores.detach().float()).item(), rel=1e-6)


@pytest.mark.parametrize("place", [(0, 0), (0, 1)])
def test_nan_does_not_pass_silently(place):
    scores = torch.eye(3)
    scores[place] = torch.nan
    assert torch.isnan(InfoNCELoss()(scores))


def test_learned_temperature():
    loss = InfoNCELoss(0.05, learnable=True)
    assert loss.current_temperature.item() == pytest.approx(0.05)
    assert [name for name, _ in loss.named_parameters()] == ["log_scale"]
    loss(torch.randn(4, 4)).backward()
    assert loss.log_scale.grad != 0
    assert not list(InfoNCELoss().parameters())


def test_learned_temperature_is_bounded_in_training():
    loss = InfoNCELoss(learnable=True, min_temperature=0.02)
    with torch.no_grad():
        loss.log_scale.fill_(10)
    loss(torch.eye(3)).backward()
    assert loss.current_temperature.item() == pytest.approx(0.02)
    assert loss.log_scale.grad is not None


def test_settings_are_recorded():
    loss = InfoNCELoss(0.05, learnable=True, min_temperature=0.015)
    assert build(loss.spec, ScoreLoss).spec == loss.spec
    assert "temperature=0.05, learnable=True" in repr(loss)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_bad_temperature(temperature):
    with pytest.raises(ValueError, match="temperature"):
        InfoNCELoss(temperature)


def test_starting_beyond_the_bound():
    with pytest.raises(ValueError, match="min_temperature"):
        InfoNCELoss(0.001, learnable=True)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("scale", [50, 20, 5])
def test_agrees_with_the_public_code_of_rde(matrix, scale):
    """Which knows the diagonal alone."""
    name = f"infonce.{matrix}.scale{scale}"
    scores, _, expected, gradient = robust(matrix, f"{name}.mean", f"{name}.grad_of_mean")
    value = InfoNCELoss(1 / scale)(scores)
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)


@pytest.mark.parametrize("scale", [50, 10])
def test_agrees_with_irra_on_features(scale):
    image, text = (reference(f"irra.{side}").clone().requires_grad_() for side in ("image", "text"))
    value = InfoNCELoss(1 / scale)(normalize(image, dim=1) @ normalize(text, dim=1).T)
    value.backward()
    close(value, reference(f"irra.itc.scale{scale}.loss"))
    close(image.grad, reference(f"irra.itc.scale{scale}.grad.image"))
    close(text.grad, reference(f"irra.itc.scale{scale}.grad.text"))
