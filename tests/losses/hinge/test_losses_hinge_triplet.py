from pathlib import Path

import numpy as np
import pytest
import torch

from itmatch.losses import HardNegativeTripletLoss, Matches, ScoreLoss, hard_negative_triplet_loss
from itmatch.spec import build

REFERENCE = Path(__file__).parents[2] / "reference"


def chosen(hinges, negatives, margin):
    """A hinge above the margin is that of a negative above the positive."""
    if negatives == "all":
        return sum(hinges)
    if negatives == "semi-hard":
        below = [hinge for hinge in hinges if hinge < margin]
        return max(below) if below else min(hinges, default=0)
    return max(hinges, default=0)


def naive(scores, positives, margin, negatives, reduction):
    """The formula, one pair at a time."""
    images, captions = scores.shape
    total, pairs = 0.0, 0
    for i in range(images):
        for t in range(captions):
            if not positives[i, t]:
                continue
            pairs += 1
            s = float(scores[i, t])
            of_image = [max(margin + float(scores[i, u]) - s, 0) for u in range(captions) if not positives[i, u]]
            of_caption = [max(margin + float(scores[j, t]) - s, 0) for j in range(images) if not positives[j, t]]
            total += chosen(of_image, negatives, margin) + chosen(of_caption, negatives, margin)
    return total if reduction == "sum" else total / pairs


def random_case(seed, images=5, captions=9, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(images, captions, generator=generator, dtype=dtype)
    positives = torch.rand(images, captions, generator=generator) < 0.3
    if seed % 2:
        positives[1] = True  # an image without negatives
        positives[:, 3] = True  # a caption without negatives
    else:
        positives[2] = False  # an image without positives
        positives[:, 5] = False  # a caption without positives
    return scores, positives


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_formula(negatives, reduction, seed):
    scores, positives = random_case(seed)
    loss = hard_negative_triplet_loss(scores, positives, margin=0.4, negatives=negatives, reduction=reduction)
    assert loss.item() == pytest.approx(naive(scores, positives, 0.4, negatives, reduction), rel=1e-12)


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_none_is_the_diagonal(negatives):
    scores = torch.randn(6, 6, dtype=torch.float64)
    eye = torch.eye(6, dtype=torch.bool)
    loss = hard_negative_triplet_loss(scores, negatives=negatives)
    assert loss.item() == hard_negative_triplet_loss(scores, eye, negatives=negatives).item()
    assert loss.item() == pytest.approx(naive(scores, eye, 0.2, negatives, "sum"), rel=1e-12)


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_gradient(negatives):
    scores, positives = random_case(0)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: hard_negative_triplet_loss(s, positives, negatives=negatives), (scores,))


@pytest.mark.parametrize(("key", "negatives"), [("loss.max_margin0.05", "hardest"), ("loss.sum_margin0.05", "all")])
@pytest.mark.parametrize("name", ["chan_basic", "chan_selfattention"])
def test_agrees_with_the_public_code(name, key, negatives):
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as reference:
        scores, expected = torch.from_numpy(reference["scores.VHA.lse"]), float(reference[key])
    loss = HardNegativeTripletLoss(margin=0.05, negatives=negatives)
    assert loss(scores).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_one_pair_has_loss_zero_and_a_finite_gradient(negatives):
    scores = torch.tensor([[0.3]], requires_grad=True)
    loss = HardNegativeTripletLoss(negatives=negatives)(scores)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.item() == 0


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_zero_for_perfect_scores(negatives):
    scores = 10 * torch.eye(4)
    scores.requires_grad_()
    loss = HardNegativeTripletLoss(negatives=negatives)(scores)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(scores.grad, torch.zeros(4, 4))


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_captions_of_the_same_image_are_no_negatives(negatives):
    index = torch.tensor([0, 0, 1, 1])
    positives = index[:, None] == index[None]
    scores = torch.zeros(4, 4).masked_fill(positives, 1.0)
    assert hard_negative_triplet_loss(scores, positives, negatives=negatives) == 0
    scores[0, 1] = 50.0  # above all others, but right
    assert hard_negative_triplet_loss(scores, positives, negatives=negatives) == 0
    if negatives != "semi-hard":  # which leaves negatives above the positive alone
        assert hard_negative_triplet_loss(scores, negatives=negatives) > 0


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_order_does_not_matter(negatives):
    scores, positives = random_case(3)
    rows, columns = torch.randperm(5), torch.randperm(9)
    shuffled = hard_negative_triplet_loss(scores[rows][:, columns], positives[rows][:, columns], negatives=negatives)
    assert shuffled.item() == pytest.approx(
        hard_negative_triplet_loss(scores, positives, negatives=negatives).item(), rel=1e-12
    )


def test_collapse_value_is_two_margins_a_pair():
    loss = HardNegativeTripletLoss(margin=0.2)
    matches = Matches(torch.rand(8, 8))
    assert loss.collapse_value(matches) == pytest.approx(2 * 8 * 0.2)
    assert loss(torch.full((8, 8), 0.7)).item() == pytest.approx(loss.collapse_value(matches))
    assert HardNegativeTripletLoss(margin=0.2, reduction="mean").collapse_value(matches) == pytest.approx(0.4)
    assert HardNegativeTripletLoss(negatives="all").collapse_value(Matches(torch.eye(3))) == pytest.approx(12 * 0.2)


def test_collapse_value_of_uneven_batches():
    loss = HardNegativeTripletLoss(margin=0.1)
    two = torch.arange(6) // 3 == torch.arange(2)[:, None]
    assert loss.collapse_value(Matches(torch.zeros(2, 6), two)) == pytest.approx(12 * 0.1)  # six pairs
    assert loss.collapse_value(Matches(torch.zeros(1, 1))) is None  # nothing to lose
    index = torch.tensor([0, 0, 1])
    positives = index[:, None] == index[None]  # five positive pairs
    assert loss.collapse_value(Matches(torch.eye(3), positives)) == pytest.approx(10 * 0.1)
    assert loss(torch.ones(3, 3), positives).item() == pytest.approx(10 * 0.1)


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_without_a_reduction_there_is_a_number_per_pair(negatives):
    scores, positives = random_case(1)
    each = hard_negative_triplet_loss(scores, positives, negatives=negatives, reduction="none")
    assert each.shape == (int(positives.sum()),)
    assert each.sum().item() == pytest.approx(hard_negative_triplet_loss(scores, positives, negatives=negatives).item())
    image, caption = positives.nonzero()[2].tolist()
    alone = naive_pair(scores, positives, image, caption, negatives)
    assert each[2].item() == pytest.approx(alone)


def naive_pair(scores, positives, image, caption, negatives):
    own = float(scores[image, caption])
    hinges = (0.2 + scores - own).clamp(min=0)
    of_image, of_caption = (
        hinges[image][~positives[image]].tolist(),
        hinges[:, caption][~positives[:, caption]].tolist(),
    )
    return chosen(of_image, negatives, 0.2) + chosen(of_caption, negatives, 0.2)


def test_warm_up_uses_all_negatives():
    scores = torch.randn(5, 5)
    loss = HardNegativeTripletLoss(warmup_epochs=2)
    everything = hard_negative_triplet_loss(scores, negatives="all")
    hardest = hard_negative_triplet_loss(scores)
    assert everything > hardest
    values = []
    for epoch in range(4):
        loss.set_epoch(epoch)
        values.append(loss(scores).item())
    assert values == [everything.item(), everything.item(), hardest.item(), hardest.item()]
    assert HardNegativeTripletLoss(warmup_epochs=1)(scores) == everything  # before set_epoch it is epoch 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
def test_half_precision_is_computed_in_float32(dtype, negatives):
    scores = (20 * torch.randn(64, 64)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = hard_negative_triplet_loss(scores, negatives=negatives)
    loss.backward()
    assert loss.dtype == torch.float32
    expected = hard_negative_triplet_loss(scores.detach().float(), negatives=negatives)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert scores.grad.dtype == dtype


@pytest.mark.parametrize("negatives", ["hardest", "all", "semi-hard"])
@pytest.mark.parametrize("place", [(0, 0), (0, 1)])
def test_nan_does_not_pass_silently(negatives, place):
    scores = torch.eye(3)
    scores[place] = torch.nan
    assert torch.isnan(hard_negative_triplet_loss(scores, negatives=negatives))


def test_settings_are_recorded():
    loss = HardNegativeTripletLoss(margin=0.05, reduction="mean", warmup_epochs=1)
    copy = build(loss.spec, ScoreLoss)
    assert copy.spec == loss.spec
    assert (copy.margin, copy.negatives, copy.reduction, copy.warmup_epochs) == (0.05, "hardest", "mean", 1)
    assert "margin=0.05" in repr(loss)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margin": -0.1}, "margin: -0.1"),
        ({"margin": float("nan")}, "margin: nan"),
        ({"negatives": "some"}, "negatives: 'some'"),
        ({"reduction": "half"}, "reduction: 'half'"),
        ({"warmup_epochs": -1}, "warmup_epochs: -1"),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        HardNegativeTripletLoss(**kwargs)
