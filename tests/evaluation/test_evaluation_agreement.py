import math

import pytest
import torch

from itmatch.errors import NonFiniteError
from itmatch.evaluation import kendall_tau, measure_agreement


def of_all_pairs(first, second):
    """The definition, pair by pair."""
    count, order, apart_first, apart_second = len(first), 0, 0, 0
    for i in range(count):
        for j in range(i):
            one = (first[i] > first[j]) - (first[i] < first[j])
            other = (second[i] > second[j]) - (second[i] < second[j])
            order, apart_first, apart_second = (
                order + one * other,
                apart_first + one * one,
                apart_second + other * other,
            )
    levels = min(len(set(first)), len(set(second)))
    return order / math.sqrt(apart_first * apart_second), 2 * levels * order / (count**2 * (levels - 1))


def test_ties_by_hand():
    """Six pairs: 5 in order, 1 tied in the second list alone."""
    found = kendall_tau([0.1, 0.4, 0.3, 0.9], [1, 2, 2, 3])
    assert found.tau_b == pytest.approx(5 / math.sqrt(6 * 5))
    assert found.tau_c == pytest.approx(2 * 3 * 5 / (16 * 2))


def test_ties_on_both_sides_by_hand():
    """Pairs (1, 1), (1, 1), (1, 2), (2, 1), (2, 2): 1 in order, 1 turned round, 6 apart on each side."""
    found = kendall_tau([1, 1, 1, 2, 2], [1, 1, 2, 1, 2])
    assert found == pytest.approx(((2 - 1) / 6, 2 * 2 * (2 - 1) / 25))


@pytest.mark.parametrize(("second", "expected"), [([1, 2, 3], 1), ([3, 2, 1], -1), ([2, 3, 1], -1 / 3)])
def test_without_ties_both_are_the_share_of_pairs(second, expected):
    assert kendall_tau([10, 20, 30], second) == pytest.approx((expected, expected))


def numbers(seed):
    generator = torch.Generator().manual_seed(seed)
    count, *levels = (
        int(torch.randint(low, high, (), generator=generator)) for low, high in ((3, 60), (2, 40), (2, 6))
    )
    lists = [torch.randint(0, level, (count,), generator=generator).tolist() for level in levels]
    return [[*values[:-2], 0, level] for values, level in zip(lists, levels, strict=True)]  # never all the same


@pytest.mark.parametrize("seed", range(20))
def test_is_that_of_all_pairs(seed):
    first, second = numbers(seed)
    assert kendall_tau(first, second) == pytest.approx(of_all_pairs(first, second))
    assert kendall_tau(second, first) == kendall_tau(first, second)


@pytest.mark.parametrize("seed", range(3))
def test_is_that_of_scipy(seed):
    stats = pytest.importorskip("scipy.stats")
    first, second = numbers(seed)
    expected = [stats.kendalltau(first, second, variant=variant).statistic for variant in "bc"]
    assert kendall_tau(first, second) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "error", "told"),
    [
        ([1.0, math.nan], [1, 2], NonFiniteError, r"first\[1\]: nan"),
        ([1.0, 2.0], [math.inf, 2], NonFiniteError, r"second\[0\]: inf"),
        ([1, 2], [1, 2, 3], ValueError, "2 and 3 numbers"),
        ([3, 3], [1, 2], ValueError, "first: all are 3.0, expected two different numbers"),
        ([], [], ValueError, "first: none, expected"),
        ([[1, 2]], [1, 2], ValueError, r"first: shape \(1, 2\)"),
    ],
)
def test_what_has_no_order_is_refused(first, second, error, told):
    with pytest.raises(error, match=told):
        kendall_tau(first, second)


def test_several_ratings_of_a_pair_and_their_images():
    found = measure_agreement([0.1, 0.9, 0.5], [1, 2, 4, 4, 2], [0, 0, 1, 1, 2], [7, 7, 3])
    expected = kendall_tau([0.1, 0.1, 0.9, 0.9, 0.5], [1, 2, 4, 4, 2])
    assert (found.tau_b, found.tau_c) == pytest.approx([100 * tau for tau in expected])
    assert (found.ratings, found.pairs, found.images) == (5, 3, 2)
    assert "tau_b   5        3      2       " in str(found)


def test_the_error_is_that_of_new_draws_of_images():
    """Many data sets of 60 images: the spread of tau over them is what the bootstrap of each says."""
    generator = torch.Generator().manual_seed(0)
    taus, errors = [], []
    for seed in range(40):
        of_image = torch.randn(60, generator=generator).repeat_interleave(3)  # captions of an image are alike
        scores = of_image + torch.randn(180, generator=generator)
        ratings = (of_image + torch.randn(180, generator=generator)).round()
        image = torch.arange(60).repeat_interleave(3)
        found = measure_agreement(scores, ratings, torch.arange(180), image, samples=50, seed=seed)
        taus.append(found.tau_b)
        errors.append(found.tau_b_error)
    spread = torch.tensor(taus).std().item()
    assert sum(errors) / 40 == pytest.approx(spread, rel=0.3)
    again = measure_agreement(scores, ratings, torch.arange(180), image, samples=50, seed=39)
    assert again == found


def test_one_image_has_no_error():
    found = measure_agreement([0.1, 0.9], [1, 2], [0, 1], [0, 0])
    assert (found.tau_b, found.tau_b_error) == (100, None)
    assert str(found).endswith("100.0")


@pytest.mark.parametrize(
    ("pair", "image", "told"),
    [([0, 2], [0, 1], "pair: 0..2, expected 0..1"), ([0, 1], [0], "image: shape"), ([0, 1], [-1, 0], "image: -1..0")],
)
def test_places_that_do_not_fit(pair, image, told):
    with pytest.raises(ValueError, match=told):
        measure_agreement([0.1, 0.9], [1, 2], pair, image)


def test_no_rating_is_refused():
    with pytest.raises(ValueError, match="ratings: none"):
        measure_agreement([0.1, 0.9], [], [], [0, 1])
