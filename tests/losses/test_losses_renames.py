"""Losses of checkpoints that were saved with the names of the version before."""

import pytest
import torch

from itmatch.losses import (
    CircleLoss,
    DistanceWeightedNegatives,
    HardNegativeTripletLoss,
    HubnessAwareLoss,
    InfoNCELoss,
    Loss,
    MemoryLoss,
    ProbabilisticMatchingLoss,
    SelectiveNegatives,
    SigmoidLoss,
)
from itmatch.models.renames import renamed
from itmatch.spec import build


@pytest.mark.parametrize(
    ("name", "arguments", "now"),
    [
        (
            "SelectiveHardNegativeLoss",
            {"margin": 0.1, "epsilon": 0.02, "reduction": "mean"},
            HardNegativeTripletLoss(0.1, SelectiveNegatives(0.02), "mean"),
        ),
        (
            "DistanceWeightedTripletLoss",
            {"dim": 8, "margin": 0.1, "cutoff": 0.4, "far": 1.2, "reduction": "sum", "sample": False},
            HardNegativeTripletLoss(0.1, DistanceWeightedNegatives(8, 0.4, 1.2)),
        ),
        (
            "OffBatchHardestLoss",
            {"embed_dim": 4, "size": 8, "margin": 0.1, "queue_margin": 0.05, "reduction": "sum"},
            MemoryLoss(HardNegativeTripletLoss(0.1), 4, 8, 0.05),
        ),
        ("CircleLoss", {"margin": 0.25, "scale": 64.0}, CircleLoss(0.25, 1 / 64)),
        ("HubnessAwareLoss", {"scale": 30.0, "threshold": 0.3}, HubnessAwareLoss(1 / 30, 0.3)),
        (
            "InfoNCELoss",
            {"temperature": 0.07, "learnable": True, "max_scale": 100.0},
            InfoNCELoss(0.07, learnable=True, min_temperature=0.01),
        ),
        ("SigmoidLoss", {"scale": 10.0, "bias": -10.0, "learnable": True}, SigmoidLoss(0.1, -10.0)),
        ("ProbabilisticMatchingLoss", {"scale": 5.0, "bias": 5.0}, ProbabilisticMatchingLoss(0.2, 5.0)),
    ],
)
def test_a_loss_of_before(name, arguments, now):
    before = {"class_path": f"itmatch.losses.{name}", "init_args": arguments}
    again = build(renamed({"terms": {"a": before}}, "file")["terms"]["a"], Loss)
    assert again.spec == now.spec
    assert again.state_dict().keys() == now.state_dict().keys()
    for value, expected in zip(again.state_dict().values(), now.state_dict().values(), strict=True):
        assert torch.equal(value, expected)
