import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from itmatch.evaluation import RetrievalRanks, retrieval_metrics, retrieval_ranks

REFERENCE = Path(__file__).parents[2] / "reference"
NAMES = ["i2t_r1", "i2t_r5", "i2t_r10", "i2t_medr", "i2t_meanr", "t2i_r1", "t2i_r5", "t2i_r10", "t2i_medr", "t2i_meanr"]


def test_agrees_with_the_public_code():
    with np.load(REFERENCE / "ranks.npz", allow_pickle=False) as reference:
        metrics = retrieval_metrics(retrieval_ranks(torch.from_numpy(reference["scores"]), torch.arange(1000) // 5))
        assert list(metrics) == [*NAMES, "rsum"]
        expected = [*reference["i2t_metrics"], *reference["t2i_metrics"], float(reference["rsum"])]
    assert list(metrics.values()) == pytest.approx(expected, rel=1e-5)


def test_constant_scores_have_no_recall_at_one():
    metrics = retrieval_metrics(retrieval_ranks(torch.zeros(20, 100), torch.arange(100) // 5))
    assert metrics["rsum"] == 0
    assert metrics["i2t_medr"] == metrics["i2t_meanr"] == 96


def test_perfect_scores():
    index = torch.arange(20) // 5
    metrics = retrieval_metrics(retrieval_ranks((torch.arange(4)[:, None] == index).float(), index))
    assert metrics["rsum"] == 600
    assert metrics["i2t_medr"] == metrics["t2i_meanr"] == 1


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_statistics(count):
    ranks = torch.randint(30, (count,))
    metrics = retrieval_metrics(RetrievalRanks(ranks, ranks), ks=(1, 20))
    values = ranks.tolist()
    assert metrics["i2t_medr"] == statistics.median(values) // 1 + 1
    assert metrics["t2i_meanr"] == pytest.approx(statistics.mean(values) + 1)
    assert metrics["i2t_r20"] == pytest.approx(100 * sum(value < 20 for value in values) / count)
    assert metrics["rsum"] == pytest.approx(2 * (metrics["i2t_r1"] + metrics["i2t_r20"]))


def test_images_without_captions_are_left_out():
    metrics = retrieval_metrics(RetrievalRanks(torch.tensor([-1, 0, -1, 3]), torch.tensor([0])))
    assert metrics["i2t_r1"] == 50
    assert metrics["i2t_meanr"] == 2.5


def test_bad_input():
    some, none = torch.tensor([0]), torch.tensor([], dtype=torch.int64)
    with pytest.raises(ValueError, match="t2i: no query"):
        retrieval_metrics(RetrievalRanks(some, none))
    with pytest.raises(ValueError, match="i2t: no query"):
        retrieval_metrics(RetrievalRanks(torch.tensor([-1]), some))
    with pytest.raises(TypeError, match=r"i2t ranks: .*float32"):
        retrieval_metrics(RetrievalRanks(some.float(), some))
    with pytest.raises(ValueError, match="ks"):
        retrieval_metrics(RetrievalRanks(some, some), ks=())
    with pytest.raises(ValueError, match="ks"):
        retrieval_metrics(RetrievalRanks(some, some), ks=(0,))
