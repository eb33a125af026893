"""What holds for every loss of a score matrix."""

import inspect

import pytest
import torch
from helpers_score_losses import grades_of, random_case

import itmatch.losses
from itmatch.losses import (
    AdaptiveMarginTripletLoss,
    AnchoredMarginLoss,
    CircleLoss,
    ComplementaryLoss,
    DistanceWeightedNegatives,
    HardNegativeTripletLoss,
    HubnessAwareLoss,
    InfoNCELoss,
    LadderLoss,
    Matches,
    PolynomialLoss,
    PositiveNegativeMarginLoss,
    RelevanceLoss,
    ScoreLoss,
    SelectiveNegatives,
    SigmoidLoss,
    SimilarityDistributionLoss,
    SmoothNDCGLoss,
    SoftMarginTripletLoss,
    TripletAlignmentLoss,
)
from itmatch.spec import build

LOSSES = [
    HardNegativeTripletLoss(0.1, warmup_epochs=1),
    HardNegativeTripletLoss(negatives="all", reduction="mean"),
    InfoNCELoss(),
    InfoNCELoss(0.5, learnable=True),
    PositiveNegativeMarginLoss(),
    PositiveNegativeMarginLoss(negatives="all", reduction="mean", positive_weight=2.0),
    SigmoidLoss(),
    SigmoidLoss(0.2, -2.0, learnable=False),
    PolynomialLoss(),
    PolynomialLoss(0.4, [0.5, -0.5], [0.0, 0.0, 1.0], "mean"),
    LadderLoss(),
    LadderLoss([0.3, 0.1, 0.05], [0.7, 0.3], [0.5, 0.25], "mean"),
    AnchoredMarginLoss(),
    AnchoredMarginLoss(0.1, 0.3, "relative", 0.25, 0.5, "all", "mean", 1),
    AdaptiveMarginTripletLoss(0.3),
    AdaptiveMarginTripletLoss(negatives="all", reduction="mean"),
    HubnessAwareLoss(),
    HubnessAwareLoss(1 / 60, 0.7),
    CircleLoss(),
    CircleLoss(0.1, 0.2),
    HardNegativeTripletLoss(negatives="semi-hard"),
    HardNegativeTripletLoss(negatives=SelectiveNegatives()),
    HardNegativeTripletLoss(0.1, SelectiveNegatives(0.5), "mean"),
    SmoothNDCGLoss(),
    SmoothNDCGLoss(0.5),
    TripletAlignmentLoss(),
    SoftMarginTripletLoss(),
    SoftMarginTripletLoss(0.1, "linear", "image"),
    ComplementaryLoss(),
    ComplementaryLoss(0.2, 2.0),
    TripletAlignmentLoss(0.3, 0.1, "mean"),
    TripletAlignmentLoss(0.2, 0.02, maximum="hardest"),
    SimilarityDistributionLoss(),
    SimilarityDistributionLoss(0.1),
    HardNegativeTripletLoss(negatives=DistanceWeightedNegatives(16)),
    HardNegativeTripletLoss(0.3, DistanceWeightedNegatives(16, 0.2, 1.9, sample=True), "mean"),
]
ABSOLUTE = (PositiveNegativeMarginLoss, SigmoidLoss, HubnessAwareLoss)  # they judge a positive without negatives
MONOTONE = [loss for loss in LOSSES if not isinstance(loss, SimilarityDistributionLoss)]  # it wants equal positives


def each(losses):
    """The test, once for each of these losses."""
    return pytest.mark.parametrize("loss", losses, ids=lambda loss: repr(loss).replace("\n", " "))


every_loss, every_exact_loss = each(LOSSES), each([loss for loss in LOSSES if "sample=True" not in repr(loss)])
GROUPS = torch.tensor([0, 0, 1, 2, 2, 2])
REPEATED = GROUPS[:, None] == GROUPS  # images that occur up to three times


def value_and_gradient(loss, scores, positives=None, **grades):
    scores = scores.detach().clone().requires_grad_()
    torch.manual_seed(0)  # a loss that draws shall draw the same
    value = loss(scores, positives, **grades)
    value.backward()
    return value.detach(), scores.grad


@pytest.fixture(autouse=True)
def _generator():
    with torch.random.fork_rng():
        yield


def test_every_loss_is_tried():
    public = [getattr(itmatch.losses, name) for name in itmatch.losses.__all__]
    found = {cls for cls in public if inspect.isclass(cls) and issubclass(cls, ScoreLoss)}
    assert {cls for cls in found if not inspect.isabstract(cls)} == {type(loss) for loss in LOSSES}


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    scores, positives = random_case(1, 16, 24)
    half = scores.to(dtype)
    expected, expected_gradient = value_and_gradient(loss, half.float(), positives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(loss, half, positives)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert value.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert torch.allclose(gradient.float(), expected_gradient, rtol=1e-2, atol=1e-3 * expected_gradient.abs().max())


@every_loss
def test_double_precision_stays(loss):
    assert loss(torch.eye(3, dtype=torch.float64)).dtype == torch.float64


@every_loss
@pytest.mark.parametrize("score", [-1.0, 0.0, 0.3, 1.0])
def test_one_pair(loss, score):
    value, gradient = value_and_gradient(loss, torch.tensor([[score]]))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    if not isinstance(loss, ABSOLUTE):
        assert value.item() == 0
        assert gradient.item() == 0
    assert gradient.item() <= 0


@every_loss
@pytest.mark.parametrize("score", [-1.0, 0.0, 1.0, 50.0])
@pytest.mark.parametrize("positives", [None, REPEATED, torch.ones(6, 6, dtype=torch.bool)])
def test_equal_scores(loss, score, positives):
    value, gradient = value_and_gradient(loss, torch.full((6, 6), score), positives)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("seed", range(2))
def test_rows_of_every_kind(loss, seed):
    scores, positives = random_case(seed)
    value, gradient = value_and_gradient(loss, scores, positives)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@each(MONOTONE)
def test_no_negatives_at_all(loss):
    value, gradient = value_and_gradient(loss, torch.full((2, 3), 0.2), torch.ones(2, 3, dtype=torch.bool))
    if isinstance(loss, ABSOLUTE):
        assert (gradient < 0).all()
    else:
        assert value.item() == 0
        assert torch.equal(gradient, torch.zeros(2, 3))


# A positive that rises past a negative makes it the semi-hard one.
@each([loss for loss in MONOTONE if getattr(loss, "negatives", None) != "semi-hard"])
@pytest.mark.parametrize("seed", range(4))
def test_another_positive_is_no_negative(loss, seed):
    """However high a positive rises, the loss does not; a rising negative it feels."""
    scores, positives = random_case(seed)
    values = []
    for rise in (0.0, 0.2, 0.5):
        torch.manual_seed(0)
        values.append(loss(scores.masked_fill(positives, 0.5) + rise * (torch.arange(9) == 1) * positives, positives))
    assert values[0] >= values[1] - 1e-9
    assert values[1] >= values[2] - 1e-9
    _, gradient = value_and_gradient(loss, scores, positives)
    assert (gradient[positives] <= 0).all()
    assert gradient[positives].min() < 0


# Below a score of 0.10 the polynomial loss pushes a hard negative up, as published; the complementary loss pushes the
# highest negative down at the cost of others.
@each([loss for loss in MONOTONE if not isinstance(loss, (PolynomialLoss, ComplementaryLoss))])
def test_negatives_are_pushed_down(loss):
    scores, positives = random_case(0)
    _, gradient = value_and_gradient(loss, scores, positives)
    assert (gradient[~positives] >= 0).all()
    assert gradient[~positives].max() > 0


@every_loss
@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (2, 7), (7, 3)])
def test_other_numbers_of_captions_than_of_images(loss, shape):
    scores, positives = torch.linspace(-0.9, 0.9, shape[0] * shape[1]).reshape(shape), torch.zeros(shape).bool()
    positives[torch.arange(shape[0]) % shape[0], torch.arange(shape[0]) % shape[1]] = True
    value, gradient = value_and_gradient(loss, scores, positives)
    assert torch.isfinite(value)
    assert gradient.shape == shape
    with pytest.raises(ValueError, match="positives may be left out only when"):
        loss(scores)


@every_exact_loss  # drawing, the order matters
def test_images_and_captions_change_places(loss):
    square = isinstance(loss, SigmoidLoss)  # divides by the captions
    scores, positives = random_case(0, 9, 9) if square else random_case(0)
    assert loss(scores.T, positives.T).item() == pytest.approx(loss(scores, positives).item(), rel=1e-9)


@every_exact_loss  # drawing, the order matters
def test_order_does_not_matter(loss):
    scores, positives = random_case(3)
    rows, columns = torch.randperm(5), torch.randperm(9)
    shuffled = loss(scores[rows][:, columns], positives[rows][:, columns])
    assert shuffled.item() == pytest.approx(loss(scores, positives).item(), rel=1e-9)


@each(MONOTONE)
@pytest.mark.parametrize("positives", [None, REPEATED])
def test_none_is_the_diagonal_and_perfect_scores_are_best(loss, positives):
    mask = torch.eye(6, dtype=torch.bool) if positives is None else positives
    perfect, gradient = value_and_gradient(loss, 2 * mask.float() - 1, positives)
    assert perfect == value_and_gradient(loss, 2 * mask.float() - 1, mask)[0]
    assert (gradient[mask] <= 0).all()
    assert (gradient[~mask] >= 0).all()
    for seed in range(20):
        scores = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        assert perfect < loss(scores, positives)
    zero_at_best = not isinstance(
        loss, (HubnessAwareLoss, SigmoidLoss, CircleLoss, InfoNCELoss, SmoothNDCGLoss, ComplementaryLoss)
    )
    if zero_at_best:
        assert perfect == 0
        assert torch.equal(gradient, torch.zeros(6, 6))


@every_loss
@pytest.mark.parametrize("place", [(0, 0), (0, 1)])
def test_nan_does_not_pass_silently(loss, place):
    scores = torch.eye(3)
    scores[place] = torch.nan
    assert torch.isnan(loss(scores))


@every_loss
def test_collapse_value(loss):
    two = torch.arange(6) // 3 == torch.arange(2)[:, None]
    for mask in (torch.eye(6, dtype=torch.bool), two, REPEATED):
        grades = {"relevance": grades_of(mask.float())} if isinstance(loss, RelevanceLoss) else {}
        value = loss.collapse_value(Matches(torch.rand(mask.shape), mask, **grades))
        if value is not None:
            for score in (-0.4, 0.0, 0.7):
                assert loss(torch.full(mask.shape, score), mask, **grades).item() == pytest.approx(value, rel=1e-5)
    assert loss.collapse_value(Matches(torch.rand(1, 1), relevance=torch.ones(1, 1))) is None


@every_loss
def test_a_collapse_value_exists_where_only_differences_count(loss):
    scores, positives = random_case(0)
    torch.manual_seed(0)
    before = loss(scores / 2, positives)
    torch.manual_seed(0)
    after = loss(scores / 2 + 0.25, positives)
    if abs(before - after) < 1e-9:
        assert loss.level_free
        assert loss.collapse_value(Matches(torch.rand(6, 6), relevance=torch.eye(6))) is not None


@each([loss for loss in LOSSES if isinstance(loss, RelevanceLoss)])
def test_grades_receive_no_gradient_and_move_with_the_pairs(loss):
    scores, positives = random_case(1)
    grades = grades_of(scores).requires_grad_()
    value, _ = value_and_gradient(loss, scores, positives, relevance=grades)
    assert grades.grad is None
    assert loss(scores.T, positives.T, relevance=grades.T).item() == pytest.approx(value.item(), rel=1e-9)
    assert value.item() != pytest.approx(loss(scores, positives).item(), rel=1e-3)
    with pytest.raises(TypeError):
        loss(scores, positives, grades)  # by name only


@every_loss
def test_settings_are_recorded(loss):
    copy = build(loss.spec, ScoreLoss)
    assert type(copy) is type(loss)
    assert copy.spec == loss.spec
    assert repr(copy) == repr(loss)
    names = inspect.signature(type(loss)).parameters
    assert list(loss.spec["init_args"]) == list(names)
    for name in names:
        assert f"{name}=" in loss.extra_repr(), name
    scores, positives = random_case(0)
    torch.manual_seed(0)
    expected = loss(scores, positives)
    torch.manual_seed(0)
    assert copy(scores, positives) == expected


@every_loss
def test_an_epoch_may_begin(loss):
    loss = build(loss.spec, ScoreLoss)
    loss.set_epoch(1)
    assert torch.isfinite(loss(torch.eye(2)))


@every_loss
def test_inputs_are_checked_and_left_alone(loss):
    scores, positives = random_case(0)
    copies = scores.clone(), positives.clone()
    loss(scores, positives)
    assert torch.equal(scores, copies[0])
    assert torch.equal(positives, copies[1])
    with pytest.raises(TypeError, match=r"expected torch\.bool"):
        loss(scores, positives.float())
    with pytest.raises(ValueError, match="no caption describes"):
        loss(scores, torch.zeros_like(positives))
