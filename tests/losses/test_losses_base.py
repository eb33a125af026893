import pytest
import torch
from torch import Tensor

from itmatch.losses import EmbeddingLoss, ScoreLoss, check_scores
from itmatch.losses.base import even_positives


class Plain(ScoreLoss):
    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        return scores.sum()


def test_a_loss_of_ones_own_needs_forward_alone():
    loss = Plain()
    loss.set_epoch(3)
    assert loss(torch.ones(2, 2)) == 4
    assert loss.collapse_value(2, 2) is None
    assert loss.spec["init_args"] == {}


@pytest.mark.parametrize("base", [ScoreLoss, EmbeddingLoss])
def test_abstract(base):
    with pytest.raises(TypeError, match="abstract"):
        base()


def test_dtypes():
    assert check_scores(torch.zeros(2, 2, dtype=torch.float16), None)[0].dtype == torch.float32
    assert check_scores(torch.zeros(2, 2, dtype=torch.float64), None)[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("scores", "positives", "error", "message"),
    [
        (torch.zeros(3), None, ValueError, r"shape \(3,\)"),
        (torch.zeros(0, 2), None, ValueError, "not empty"),
        (torch.zeros(2, 2, dtype=torch.int64), None, TypeError, "torch.int64, expected a floating"),
        (torch.zeros(2, 3), None, ValueError, "2 images and 3 captions"),
        (torch.zeros(2, 3), torch.ones(2, 3), TypeError, "torch.float32, expected torch.bool"),
        (torch.zeros(2, 3), torch.ones(3, 2, dtype=torch.bool), ValueError, r"positives: shape \(3, 2\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), ValueError, "no caption describes"),
    ],
)
def test_bad_inputs(scores, positives, error, message):
    with pytest.raises(error, match=message):
        check_scores(scores, positives)


def test_even_positives():
    assert torch.equal(even_positives(3, 3), torch.eye(3, dtype=torch.bool))
    assert even_positives(2, 6).sum(1).tolist() == [3, 3]
    assert even_positives(3, 2) is None
    assert even_positives(2, 3) is None
