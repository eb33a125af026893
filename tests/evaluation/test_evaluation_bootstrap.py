import pytest
import torch

from itmatch.evaluation import RetrievalRanks, holm, paired_bootstrap, pairwise_bootstrap, retrieval_metrics


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


@pytest.mark.parametrize("samples", [1, 9, 99])
def test_no_number_of_samples_gives_a_p_of_zero(samples):
    """A difference that every sample has: nothing below 2 / (B + 1) can be told."""
    images = torch.arange(20)
    good, bad = (RetrievalRanks(torch.full((20,), rank), torch.full((20,), rank)) for rank in (0, 50))
    for pair in ((good, bad), (bad, good)):
        assert paired_bootstrap(*pair, images, samples=samples).p_value == pytest.approx(min(1.0, 2 / (samples + 1)))
    assert paired_bootstrap(good, good, images, samples=samples).p_value == 1.0


def test_p_is_two_sided():
    """Twice the share of the samples with the rarer sign, in a loop over samples of one's own."""
    image = torch.arange(60) // 3
    first, second = ranks(20, 60, 12, 0), ranks(20, 60, 13, 1)
    p = [paired_bootstrap(*pair, image, samples=2000, seed=3).p_value for pair in ((first, second), (second, first))]
    assert p[0] == p[1]
    generator, against = torch.Generator().manual_seed(7), 0
    sign = 1 if retrieval_metrics(first)["rsum"] > retrieval_metrics(second)["rsum"] else -1
    for _ in range(2000):
        chosen = torch.randint(20, (20,), generator=generator)
        captions = (3 * chosen[:, None] + torch.arange(3)).flatten()
        a, b = (
            retrieval_metrics(RetrievalRanks(r.image_to_text[chosen], r.text_to_image[captions]))["rsum"]
            for r in (first, second)
        )
        against += sign * (a - b) <= 0
    assert 0.01 < p[0] < 1
    assert p[0] == pytest.approx(min(1.0, 2 * (1 + against) / 2001), abs=0.05)


def test_samples_without_a_query_are_not_drawn():
    """Or the interval would be NaN: three of four images have no captions."""
    first = RetrievalRanks(torch.tensor([-1, 0, -1, -1]), torch.tensor([0]))
    second = RetrievalRanks(torch.tensor([-1, 7, -1, -1]), torch.tensor([3]))
    found = paired_bootstrap(first, second, torch.tensor([1]), samples=50)
    assert (found.low, found.high) == (found.difference, found.difference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples: 0"),
        ({"samples": 10**9}, "samples: 1000000000"),
        ({"caption_image": torch.tensor([0, 3])}, r"caption_image: 0\.\.3, expected 0\.\.2"),
        ({"caption_image": torch.tensor([-1, 2])}, r"caption_image: -1\.\.2"),
        ({"caption_image": torch.tensor([0, 1])}, "images with a rank are not those with captions"),
        ({"first": RetrievalRanks(torch.tensor([0, -1, 3]), torch.tensor([0, -1]))}, "first.text_to_image: -1"),
        ({"first": RetrievalRanks(torch.tensor([0, 1, 3]), torch.tensor([0, 1]))}, "images with a rank are not those"),
    ],
)
def test_what_cannot_be_compared(change, message):
    ranked = RetrievalRanks(torch.tensor([0, -1, 3]), torch.tensor([0, 2]))
    given = {"first": ranked, "second": ranked, "caption_image": torch.tensor([0, 2]), "samples": 5} | change
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(given["first"], given["second"], given["caption_image"], samples=given["samples"])


def test_pairs_of_several_are_those_of_two():
    image = torch.arange(60) // 3
    systems = [ranks(20, 60, worst, seed) for seed, worst in enumerate((12, 13, 16))]
    found = pairwise_bootstrap([[one] for one in systems], image, samples=500, seed=3)
    assert [(pair.first, pair.second) for pair in found] == [(0, 1), (0, 2), (1, 2)]
    for pair in found:
        assert pair.result == paired_bootstrap(systems[pair.first], systems[pair.second], image, samples=500, seed=3)


def test_several_runs_of_a_system_count_by_their_mean():
    image = torch.arange(60) // 3
    runs, other = [ranks(20, 60, 12, seed) for seed in range(3)], ranks(20, 60, 16, 9)
    (pair,) = pairwise_bootstrap([runs, [other]], image, samples=400, seed=3)
    single = [paired_bootstrap(run, other, image, samples=400, seed=3) for run in runs]
    assert pair.result.difference == pytest.approx(sum(found.difference for found in single) / 3)
    assert pair.result.high - pair.result.low < max(found.high - found.low for found in single)
    (pair,) = pairwise_bootstrap([[runs[0]] * 3, [runs[0]] * 2], image, samples=50)
    assert pair.result == (0.0, 0.0, 0.0, 1.0)


def test_systems_of_other_sets_are_named():
    systems = [[ranks(3, 6, 5, 0)], [ranks(3, 6, 5, 0), ranks(3, 7, 5, 0)], [ranks(3, 6, 5, 0)]]
    with pytest.raises(ValueError, match=r"ranks of \(3, 6\) and \(3, 7\) images and captions"):
        pairwise_bootstrap(systems, torch.arange(6) // 2)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
