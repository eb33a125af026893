import pytest
import torch
from helpers_robust_losses import close, is_reference, reference, robust
from helpers_score_losses import random_case

from itmatch.losses import (
    AnchoredMarginLoss,
    HardNegativeTripletLoss,
    InfoNCELoss,
    Matches,
    Objective,
    SimilarityDistributionLoss,
    anchored_margin_loss,
)

MATRICES = ["random", "perfect", "several"]
PUBLIC = {
    "absolute_beta1": {"anchor_margin": 0.2},
    "absolute_beta0.5": {"anchor_margin": 0.1},
    "absolute_gamma0.25": {"anchor_margin": 0.2, "positive_share": 0.25},
    "relative_beta1": {"anchor_margin": 0.2, "lead": "relative"},
    "relative_beta0.5": {"anchor_margin": 0.1, "lead": "relative"},
}


def naive(s, a, positives, margin, share, *, relative):
    """What each positive pair loses."""
    lost = []
    for i, t in positives.nonzero().tolist():
        row = [(i, k) for k in range(s.shape[1]) if not positives[i, k]]
        column = [(k, t) for k in range(s.shape[0]) if not positives[k, t]]
        own = 0.0 if relative else 2 * max(0.0, share * margin + (a[i, t] - s[i, t]).item())
        for others in (row, column):
            if relative:
                hinges = [margin + (a[i, t] - a[n] - (s[i, t] - s[n])).item() for n in others]
            else:
                hinges = [(1 - share) * margin + (s[n] - a[n]).item() for n in others]
            own += max([0.0, *hinges])
        lost.append(own)
    return torch.tensor(lost, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lead", ["absolute", "relative"])
def test_equals_the_formula(seed, lead):
    scores, positives = random_case(seed)
    anchor = random_case(seed + 10)[0]
    expected = naive(scores, anchor, positives, 0.3, 0.25, relative=lead == "relative")
    settings = {"anchor": anchor, "anchor_margin": 0.3, "positive_share": 0.25, "lead": lead}
    for reduction, total in (("sum", expected.sum()), ("mean", expected.mean()), ("none", expected)):
        value = anchored_margin_loss(scores, positives, **settings, reduction=reduction)
        torch.testing.assert_close(value, total)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("form", PUBLIC)
def test_agrees_with_the_public_code(matrix, form):
    name = f"dbl.{matrix}.{form}"
    scores, _, anchor, expected, gradient = robust(
        matrix, f"dbl.{matrix}.anchor_scores", f"{name}.loss", f"{name}.grad"
    )
    value = anchored_margin_loss(scores, anchor=anchor, **PUBLIC[form])
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)


@pytest.mark.parametrize("matrix", MATRICES)
def test_what_the_authors_compare_with_that_other_losses_are(matrix):
    """The cross-entropy of the gain over an anchor, and the distribution over the positives, without one."""
    for form, loss, factor in (("probability", InfoNCELoss(0.1), 2), ("cmpm", SimilarityDistributionLoss(0.1), 1)):
        name = f"dbl.{matrix}.{form}"
        scores, positives, anchor, expected, gradient = robust(
            matrix, f"dbl.{matrix}.anchor_scores", f"{name}.loss", f"{name}.grad"
        )
        value = factor * (loss(scores - anchor) if form == "probability" else loss(scores, positives))
        value.backward()
        close(value, expected)
        close(scores.grad, gradient)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_without_an_anchor_it_is_the_triplet(matrix, negatives):
    name = f"dbl.{matrix}.raw_{'hardest' if negatives == 'hardest' else 'sum'}"
    scores, _, expected, gradient = robust(matrix, f"{name}.loss", f"{name}.grad")
    value = AnchoredMarginLoss(negatives=negatives)(scores)
    value.backward()
    close(value, expected)
    close(scores.grad, gradient)


@pytest.mark.parametrize(("lead", "public"), [("absolute", "boostabs"), ("relative", "boostrel")])
def test_members_of_an_ensemble_agree_with_the_public_code(lead, public):
    """Each has those before it as anchors."""
    members = [reference("scores.random"), reference("dbl.random.anchor_scores"), reference("scores.several")]
    loss = AnchoredMarginLoss(lead=lead)
    for place, scores in enumerate(members):
        before = torch.stack(members[:place]) if place else None
        close(loss(scores, anchors=before), reference(f"dbl.branches.{public}.branch{place}"))


def test_all_forms_of_the_file_are_tried():
    for form in PUBLIC:
        assert is_reference(f"dbl.random.{form}.loss")
    assert not is_reference("dbl.random.absolute_beta2.loss")


@pytest.mark.parametrize("lead", ["absolute", "relative"])
def test_gradcheck_and_no_gradient_for_the_anchor(lead):
    scores, positives = random_case(1)
    anchor = random_case(2)[0].requires_grad_()
    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: anchored_margin_loss(s, positives, anchor=anchor.detach(), lead=lead), scores
    )
    anchored_margin_loss(scores, positives, anchor=anchor, lead=lead).backward()
    assert anchor.grad is None
    assert scores.grad.abs().sum() > 0


def test_mean_over_the_anchors_by_weight_and_warmup():
    scores, positives = random_case(0)
    anchors = torch.stack([random_case(seed)[0] for seed in (4, 6)])
    loss = AnchoredMarginLoss(0.1, 0.3, weight=0.5, warmup_epochs=1)
    lost = [anchored_margin_loss(scores, positives, anchor=anchor, anchor_margin=0.3) for anchor in anchors]
    for epoch, negatives in enumerate(["all", "hardest"]):
        loss.set_epoch(epoch)
        plain = HardNegativeTripletLoss(0.1, negatives)(scores, positives)
        torch.testing.assert_close(loss(scores, positives, anchors), plain + 0.25 * (lost[0] + lost[1]))
        torch.testing.assert_close(
            loss.of(Matches(scores, positives, anchors=anchors)), loss(scores, positives, anchors)
        )
    assert loss(scores, positives, anchors[:0]) == loss(scores, positives)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    scores, positives = random_case(1, 16, 24)
    half, anchor = scores.to(dtype), random_case(3, 16, 24)[0].to(dtype)
    value = anchored_margin_loss(half, positives, anchor=anchor)
    torch.testing.assert_close(value, anchored_margin_loss(half.float(), positives, anchor=anchor.float()))
    assert anchored_margin_loss(scores, positives, anchor=anchor).dtype == torch.float64


@pytest.mark.parametrize("lead", ["absolute", "relative"])
def test_one_pair_and_only_positives(lead):
    relative = lead == "relative"
    value = anchored_margin_loss(torch.tensor([[0.5]]), anchor=torch.tensor([[0.75]]), lead=lead)
    assert value.item() == pytest.approx(0.0 if relative else 2 * (0.1 + 0.25))
    both = torch.ones(2, 3, dtype=torch.bool)
    value = anchored_margin_loss(torch.zeros(2, 3), both, anchor=torch.zeros(2, 3), lead=lead)
    assert value.item() == pytest.approx(0.0 if relative else 6 * 0.2)


def test_a_collapse_is_known_where_the_lead_is_relative():
    anchors = torch.rand(1, 4, 4)
    for lead in ("absolute", "relative"):
        loss = AnchoredMarginLoss(lead=lead)
        value = loss.collapse_value(Matches(torch.rand(4, 4), anchors=anchors))
        if lead == "absolute":
            assert value is None
            assert loss.collapse_level(Matches(torch.rand(4, 4), anchors=anchors)) is None
        else:
            assert loss(torch.full((4, 4), 0.3), None, anchors).item() == pytest.approx(value, rel=1e-5)


def test_anchors_reach_a_term_of_an_objective():
    loss = Objective({"anchored": AnchoredMarginLoss()})
    assert "anchors" in loss.uses
    matches = Matches(torch.eye(3), anchors=torch.eye(3)[None])
    torch.testing.assert_close(loss.of(matches), torch.tensor(3 * 0.4))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"anchor: shape \(2, 3\), expected that of scores, \(2, 2\)"):
        anchored_margin_loss(torch.eye(2), anchor=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="lead: 'wide', expected 'absolute' or 'relative'"):
        AnchoredMarginLoss(lead="wide")
    assert torch.isnan(anchored_margin_loss(torch.eye(2), anchor=torch.full((2, 2), torch.nan)))
