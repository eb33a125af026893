import pytest
import torch
from helpers_processes import run_processes

from itmatch.evaluation import RetrievalMetrics, RetrievalRanks, retrieval_metrics, retrieval_ranks


def example_ranks():
    generator = torch.Generator().manual_seed(0)
    return retrieval_ranks(torch.randn(7, 21, generator=generator), torch.arange(21) // 3)


def close(metrics, expected):
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(expected, rel=1e-6)


def test_metric_equals_the_function():
    ranks, metric = example_ranks(), RetrievalMetrics()
    close(metric(ranks), retrieval_metrics(ranks))  # forward
    close(metric.compute(), retrieval_metrics(ranks))
    metric.reset()
    for start in range(0, 21, 4):
        metric.update(RetrievalRanks(ranks.image_to_text[start : start + 4], ranks.text_to_image[start : start + 4]))
    close(metric.compute(), retrieval_metrics(ranks))


def test_metric_counts_a_numbered_query_once_and_others_every_time():
    def recall(numbers):
        metric = RetrievalMetrics()
        for rank in (0, 0, 5):
            ranks = torch.tensor([rank])
            metric.update(RetrievalRanks(ranks, ranks), None, numbers and torch.tensor([numbers.pop()]))
        return metric.compute()["t2i_r1"].item()

    assert recall(None) == pytest.approx(200 / 3)
    assert recall([3, 3, 4]) == 50  # in the order 4, 3, 3: the worst rank of 3 counts
    assert recall([4, 3, 3]) == 50
    metric = RetrievalMetrics()
    same = torch.tensor([0, 9])
    metric.update(RetrievalRanks(same, same), torch.tensor([1, 1]), torch.tensor([2, 2]))
    assert metric.compute()["i2t_meanr"].item() == 10


def test_metric_keeps_whole_numbers_in_half_precision():
    metric, ranks = RetrievalMetrics(), torch.tensor([4097])
    metric.update(RetrievalRanks(ranks, ranks), torch.tensor([100001]), torch.tensor([100003]))
    metric.half()
    metric.set_dtype(torch.float16)
    assert metric.compute()["i2t_meanr"].item() == 4098
    assert metric.caption_index[0].item() == 100003


def test_metric_bad_input():
    metric, ranks = RetrievalMetrics(), RetrievalRanks(torch.tensor([0, 1]), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"image_index: .*expected"):
        metric.update(ranks, torch.tensor([0]))
    with pytest.raises(ValueError, match="caption_index: -1"):
        metric.update(ranks, None, torch.tensor([-1]))
    with pytest.raises(TypeError, match="image ranks"):
        metric.update(RetrievalRanks(torch.zeros(2), torch.tensor([0])))


def _share(process, _):
    ranks, metric = example_ranks(), RetrievalMetrics()
    # As a distributed sampler deals 7 images and 21 captions to two processes: the first ones come twice.
    images = torch.tensor([*range(7), 0])[process::2]
    captions = torch.tensor([*range(21), 0])[process::2]
    for part in images.split(3):
        metric.update(RetrievalRanks(ranks.image_to_text[part], ranks.text_to_image[:0]), part, captions[:0])
    metric.update(RetrievalRanks(ranks.image_to_text[:0], ranks.text_to_image[captions]), images[:0], captions)
    close(metric.compute(), retrieval_metrics(ranks))
    assert all(map(torch.equal, metric.ranks(), ranks))  # in the order of their numbers
    assert sum(len(part) for part in metric.image_ranks) == 4  # its own again

    metric.reset()
    if process == 0:  # the other one saw nothing
        metric.update(ranks)
    close(metric.compute(), retrieval_metrics(ranks))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_metric_on_two_processes(tmp_path):
    run_processes(_share, 2, tmp_path)
