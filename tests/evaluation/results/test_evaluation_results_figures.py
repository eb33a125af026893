import statistics

import pytest

from itmatch.evaluation.results.figures import Spread, best_of, by_protocol, heading, spread_over


def test_figures_of_protocols_whose_names_begin_alike():
    figures = {"rsum": 1, "mine_rsum": 2, "mine_too_rsum": 3, "mine_too_extra": 4, "mine_extra": 5, "loss_mine": 6}
    assert by_protocol(figures) == {
        "": {"rsum": 1, "loss_mine": 6},
        "mine": {"rsum": 2, "extra": 5},
        "mine_too": {"rsum": 3, "extra": 4},
    }
    names = ["i2t_r1", "t2i_rsum", "i2t_i2t_r1", "pmrp_i2t", "rsum_std"]
    assert list(by_protocol(dict.fromkeys(names, 0))) == ["", "pmrp"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coco_1k_rsum", "COCO 1K rSum"),
        ("coco_5k_t2i_r10", "COCO 5K t2i R@10"),
        ("flickr30k_i2t_medr", "Flickr30K i2t medR"),
        ("coco_1k_rsum_std", "COCO 1K rSum std"),
        ("eccv_i2t_rprecision", "ECCV i2t R-Precision"),
        ("pmrp_t2i", "PMRP t2i"),
        ("i2t_r50", "i2t R@50"),
        ("first_hundred_i2t_r1", "first_hundred i2t R@1"),
        ("twin_accuracy", "twin accuracy"),
    ],
)
def test_headings(name, expected):
    assert heading(name) == expected


def test_the_deviation_is_that_of_a_sample():
    values = [500.0, 503.0, 511.5]
    mean = sum(values) / 3
    expected = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert spread_over(values) == Spread(pytest.approx(mean), pytest.approx(expected), 3)
    assert statistics.pstdev(values) < expected
    assert spread_over([4.0]) == 4.0


def test_ranks_are_better_when_small():
    assert [best_of(name, [1.0, 3.0]) for name in ("i2t_medr", "coco_1k_t2i_meanr", "i2t_r1")] == [1.0, 1.0, 3.0]
    assert best_of("coco_1k_rsum_std", [1.0, 3.0]) is None
