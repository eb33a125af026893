import pytest
import torch

from itmatch.evaluation import twin_accuracy


def test_by_kind_and_overall():
    own = torch.tensor([1.0, 2.0, 3.0, 4.0])
    twin = torch.tensor([0.0, 5.0, 2.0, 4.0])  # the last is a tie, hence wrong
    result = twin_accuracy(own, twin, ["spatial", "semantic", "spatial", "spatial"])
    assert list(result) == ["twin_accuracy", "twin_accuracy_semantic", "twin_accuracy_spatial"]
    assert list(result.values()) == pytest.approx([50, 0, 200 / 3])


def test_constant_model_is_always_wrong():
    assert twin_accuracy(torch.zeros(3), torch.zeros(3), ["a", "b", "a"])["twin_accuracy"] == 0


@pytest.mark.parametrize("which", ["own", "twin"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_have_to_be_finite(which, value):
    scores = {"own": torch.ones(3), "twin": torch.zeros(3)}
    scores[which][1] = value
    with pytest.raises(ValueError, match=f"{which}: score of caption 1 is {value}"):
        twin_accuracy(scores["own"], scores["twin"], ["a"] * 3)


def test_bad_input():
    with pytest.raises(ValueError, match="expected one length"):
        twin_accuracy(torch.zeros(2), torch.zeros(3), ["a", "a"])
    with pytest.raises(ValueError, match="1 kinds"):
        twin_accuracy(torch.zeros(2), torch.zeros(2), ["a"])
    with pytest.raises(ValueError, match="no caption has a twin"):
        twin_accuracy(torch.zeros(0), torch.zeros(0), [])
    with pytest.raises(ValueError, match="caption 1 has none"):
        twin_accuracy(torch.zeros(2), torch.zeros(2), ["a", ""])
