import pytest
import torch

from itmatch.evaluation import RetrievalRanks, paired_bootstrap, retrieval_metrics


def ranks(images, captions, worst, seed):
    generator = torch.Generator().manual_seed(seed)
    return RetrievalRanks(
        torch.randint(worst, (images,), generator=generator), torch.randint(worst, (captions,), generator=generator)
    )


def test_the_difference_is_that_of_the_metrics_and_the_interval_that_of_a_loop():
    image = torch.arange(60) // 3
    first, second = ranks(20, 60, 12, 0), ranks(20, 60, 16, 1)
    found = paired_bootstrap(first, second, image, samples=4000, seed=3)
    expected = retrieval_metrics(first)["rsum"] - retrieval_metrics(second)["rsum"]
    assert found.difference == pytest.approx(expected)
    generator, differences = torch.Generator().manual_seed(7), []
    for _ in range(1500):
        chosen = torch.randint(20, (20,), generator=generator)
        captions = (3 * chosen[:, None] + torch.arange(3)).flatten()
        parts = [RetrievalRanks(r.image_to_text[chosen], r.text_to_image[captions]) for r in (first, second)]
        differences.append(retrieval_metrics(parts[0])["rsum"] - retrieval_metrics(parts[1])["rsum"])
    low, high = torch.tensor(differences).quantile(torch.tensor([0.025, 0.975])).tolist()
    assert found.low == pytest.approx(low, abs=8)
    assert found.high == pytest.approx(high, abs=8)
    other = paired_bootstrap(second, first, image, samples=4000, seed=3)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))
    assert other.p_value == found.p_value


def test_images_without_captions_are_no_queries():
    first = RetrievalRanks(torch.tensor([0, -1, 3]), torch.tensor([0, 2]))
    second = RetrievalRanks(torch.tensor([2, -1, 30]), torch.tensor([0, 20]))
    expected = retrieval_metrics(first)["rsum"] - retrieval_metrics(second)["rsum"]
    found = paired_bootstrap(first, second, torch.tensor([0, 2]), samples=50)
    assert found.difference == pytest.approx(expected)


def test_other_sets_are_named():
    with pytest.raises(ValueError, match=r"ranks of \(3, 6\) and \(4, 6\)"):
        paired_bootstrap(ranks(3, 6, 5, 0), ranks(4, 6, 5, 0), torch.arange(6) // 2)
