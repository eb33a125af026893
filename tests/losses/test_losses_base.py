import pytest
import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.losses import (
    AdaptiveMarginTripletLoss,
    CenterHingeLoss,
    EmbeddingLoss,
    HardNegativeTripletLoss,
    LadderLoss,
    Loss,
    Matches,
    Objective,
    ScoreLoss,
    SmoothNDCGLoss,
)


class Plain(ScoreLoss):
    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        return scores.sum()


def test_a_loss_of_ones_own_needs_forward_alone():
    loss = Plain()
    loss.set_epoch(3)
    assert loss(torch.ones(2, 2)) == 4
    assert loss.of(Matches(torch.ones(2, 2))) == 4
    assert loss.collapse_value(Matches(torch.ones(2, 2))) is None
    assert loss.spec["init_args"] == {}


@pytest.mark.parametrize("base", [Loss, ScoreLoss, EmbeddingLoss])
def test_abstract(base):
    with pytest.raises(TypeError, match="abstract"):
        base()


@pytest.mark.parametrize(
    ("loss", "matches", "field"),
    [
        (LadderLoss(), Matches(torch.eye(2)), "relevance"),
        (LadderLoss(), Matches(relevance=torch.eye(2)), "scores"),
        (CenterHingeLoss(), Matches(torch.eye(2), image=torch.eye(2)), "text"),
    ],
)
def test_what_is_missing_is_named(loss, matches, field):
    with pytest.raises(ValueError, match=f"{field}: None, but {type(loss).__name__} reads it"):
        loss.of(matches)


def test_every_loss_says_what_it_needs():
    assert LadderLoss().needs == {"scores", "positives", "relevance"}
    assert SmoothNDCGLoss().needs == {"scores", "positives"}
    assert SmoothNDCGLoss().of(Matches(torch.eye(2))) == SmoothNDCGLoss()(torch.eye(2))
    assert CenterHingeLoss().needs == {"image", "text", "groups"}
    scores, relevance = torch.rand(3, 3), torch.rand(3, 3)
    for loss in (LadderLoss(), AdaptiveMarginTripletLoss(), SmoothNDCGLoss()):
        assert loss.of(Matches(scores, relevance=relevance)) == loss(scores, relevance=relevance)


class Similar(Loss):
    """Weighs the mean fragments of a batch against each other: a loss with a parameter that reads fragments."""

    needs = frozenset({"fragments"})

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.weight = torch.nn.Linear(embed_dim, embed_dim, bias=False)

    def of(self, matches: Matches) -> Tensor:
        image, text = (side.features.mean(1) for side in matches.fragments)
        return torch.nn.functional.cross_entropy(self.weight(image) @ text.T, torch.arange(len(image)))


def test_a_loss_that_reads_fragments():
    mask = torch.ones(3, 2, dtype=torch.bool)
    fragments = Fragments(torch.randn(3, 2, 4), mask), Fragments(torch.randn(3, 2, 4), mask)
    loss = Similar(4)
    loss(fragments=fragments).backward()
    assert loss.weight.weight.grad.abs().sum() > 0
    assert loss.collapse_value(Matches(torch.eye(3), fragments=fragments)) is None
    both = Objective({"similar": loss, "triplet": HardNegativeTripletLoss()})
    assert both.needs == {"fragments", "scores", "positives"}
    matches = Matches(torch.rand(3, 3), fragments=fragments)
    assert both.of(matches) == loss.of(matches) + HardNegativeTripletLoss().of(matches)
