import math

import pytest
import torch
from helpers_robust_losses import MATRICES, close, reference, robust
from helpers_score_losses import both_directions, grades_of, random_case
from torch.nn.functional import normalize

from itmatch.losses import SimilarityDistributionLoss, similarity_distribution_loss
from itmatch.losses.contrastive.similarity_distribution import divergences


def naive(scores, positives, temperature, epsilon):
    """With a mask, or with numbers from 0 to 1."""
    total = 0.0
    for rows, masks in both_directions(scores, positives):
        anchors = []
        for row, mask in zip(rows, masks, strict=True):
            weights = [math.exp(s / temperature) for s in row]
            shares = [w / sum(weights) for w in weights]
            wanted = [m / (sum(mask) or 1) for m in mask]
            if any(mask):
                anchors.append(
                    sum(p * (math.log(p) - math.log(q + epsilon)) for p, q in zip(shares, wanted, strict=True))
                )
        total += sum(anchors) / len(anchors)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_formula(seed):
    scores, positives = random_case(seed)
    value = similarity_distribution_loss(scores, positives, temperature=0.3, epsilon=1e-5)
    assert value.item() == pytest.approx(naive(scores, positives, 0.3, 1e-5), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_soft_labels_equal_the_formula(seed):
    scores, positives = random_case(seed)
    matched = grades_of(scores, seed) * positives  # some rows and columns are without any
    value = similarity_distribution_loss(scores, matched=matched, temperature=0.3, epsilon=1e-5)
    assert value.item() == pytest.approx(naive(scores, matched, 0.3, 1e-5), rel=1e-12)
    hard = similarity_distribution_loss(scores, matched=positives.double(), temperature=0.3)
    assert hard == similarity_distribution_loss(scores, positives, temperature=0.3)
    with pytest.raises(ValueError, match="matched: 2 at"):
        similarity_distribution_loss(scores, matched=torch.full_like(scores, 2))
    with pytest.raises(ValueError, match="positives and matched: give one"):
        similarity_distribution_loss(scores, positives, matched=matched)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("scale", [50, 20, 10])
def test_agrees_with_the_public_code(matrix, scale):
    name = f"sdm.{matrix}.scale{scale}"
    scores, positives, expected, gradient = robust(matrix, f"{name}.mean", f"{name}.grad_of_mean")
    value = SimilarityDistributionLoss(1 / scale)(scores, positives)
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)
    close(of_pairs(scale * scores, positives.float()), reference(f"{name}.per"))


def of_pairs(logits, wanted):
    """What the row and the column of each pair lose, as the public code has it: columns divided by sums of rows."""
    wanted = wanted / wanted.sum(1)
    return divergences(logits, wanted, 1e-8) + divergences(logits.T, wanted, 1e-8)


def irra_scores():
    """Features of images and texts, and their cosines."""
    image, text = (reference(f"irra.{side}").clone().requires_grad_() for side in ("image", "text"))
    return image, text, normalize(image, dim=1) @ normalize(text, dim=1).T


@pytest.mark.parametrize("scale", [50, 10])
def test_agrees_with_irra_on_features(scale):
    (image, text, scores), ids, name = irra_scores(), reference("irra.ids"), f"irra.sdm.scale{scale}"
    value = SimilarityDistributionLoss(1 / scale)(scores, ids[:, None] == ids)
    value.backward()
    close(value, reference(f"{name}.loss"))
    close(image.grad, reference(f"{name}.grad.image"))
    close(text.grad, reference(f"{name}.grad.text"))


def test_soft_labels_agree_with_irra():
    """There a column is divided by the sum of a row, too; it cancels out where the scores are alike both ways."""
    (image, text, scores), ids, photos = irra_scores(), reference("irra.ids"), reference("irra.image_ids")
    same = (photos[:, None] == photos).float()
    matched = same + 0.3 * ((ids[:, None] == ids).float() - same)
    assert len(set(matched.sum(1).tolist())) > 2
    value = similarity_distribution_loss(scores, matched=matched)
    value.backward()
    close(value, reference("irra.sdm_soft.scale50.loss"))
    close(of_pairs(50 * scores, matched).mean(), reference("irra.sdm_soft.scale50.loss"))
    close(image.grad, reference("irra.sdm_soft.scale50.grad.image"))
    close(text.grad, reference("irra.sdm_soft.scale50.grad.text"))
    uneven = reference("scores.random")
    assert (similarity_distribution_loss(uneven, matched=matched) - of_pairs(50 * uneven, matched).mean()).abs() > 0.01


@pytest.mark.parametrize("part", ["global", "tokens"])
def test_labels_of_pairs_agree_with_the_public_code_of_rde(part):
    """What the pairs lose, weighted by their labels."""
    ids, label, end = reference("rbs.ids"), reference("rbs.label"), "" if part == "global" else "_tokens"
    image, text = (reference(f"rbs.{side}{end}").clone().requires_grad_() for side in ("image", "text"))
    lost = of_pairs(50 * normalize(image, dim=1) @ normalize(text, dim=1).T, (ids[:, None] == ids).float())
    value = (label * lost).sum() / label.sum()
    close(value, reference(f"rbs.SDM.{part}"))
    if part == "global":
        value.backward()
        close(image.grad, reference("rbs.SDM.grad.image"))
        close(text.grad, reference("rbs.SDM.grad.text"))


def test_gradcheck():
    scores, positives = random_case(1)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: similarity_distribution_loss(s, positives, temperature=0.5), scores)


def test_equal_positives_are_best():
    positives = torch.tensor([[True, True, False, False], [False, False, True, True]])
    even = similarity_distribution_loss(torch.where(positives, 1.0, 0.0), positives)
    uneven = similarity_distribution_loss(torch.tensor([[1.0, 0.9, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]), positives)
    assert even.item() == pytest.approx(0, abs=1e-6)
    assert uneven > 0.1


@pytest.mark.parametrize("setting", ["temperature", "epsilon"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_bad_settings(setting, value):
    with pytest.raises(ValueError, match=setting):
        SimilarityDistributionLoss(**{setting: value})
