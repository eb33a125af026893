import math

import pytest
import torch

from itmatch.errors import NonFiniteError
from itmatch.evaluation.choices import (
    ChoiceFigure,
    area_under_curve,
    check_finite_scores,
    choice_table,
    chosen_right,
    group_hits,
    share,
)


def test_every_right_caption_above_every_wrong_one():
    infinite = math.inf
    right = torch.tensor([[0.9, 0.7], [0.9, 0.5], [0.9, infinite], [0.3, infinite], [0.6, 0.6]])
    wrong = torch.tensor([[0.6, 0.1], [0.6, 0.1], [0.8, -infinite], [0.3, -infinite], [0.6, 0.0]])
    assert chosen_right(right, wrong).tolist() == [True, False, True, False, False]


def test_standard_error():
    value, error = share(torch.arange(100) < 80)
    assert value == 80
    assert error == pytest.approx(4.0)


@pytest.mark.parametrize("seed", range(3))
def test_area_is_that_of_all_pairs(seed):
    generator = torch.Generator().manual_seed(seed)
    right, wrong = (
        torch.randint(0, 9, (13,), generator=generator).double(),
        torch.randint(0, 9, (17,), generator=generator),
    )
    pairs = (right[:, None] > wrong).double().mean().item()
    assert area_under_curve(right, wrong.double())[0] == pytest.approx(100 * pairs)


def test_error_of_the_area_is_that_of_resampling():
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(400):
        right, wrong = torch.randn(60, generator=generator) + 1, torch.randn(40, generator=generator)
        areas.append(area_under_curve(right, wrong))
    values, errors = torch.tensor(areas).T
    assert errors.mean().item() == pytest.approx(values.std().item(), rel=0.1)


def test_groups_by_loop():
    scores = torch.rand(200, 2, 2, generator=torch.Generator().manual_seed(1))
    found = group_hits(scores)
    for g, ((a, b), (c, d)) in enumerate(scores.tolist()):  # a, b: image 0 with captions 0, 1
        text, image = a > b and d > c, a > c and d > b
        assert [found[name][g].item() for name in ("text", "image", "group")] == [text, image, text and image]


def test_a_tie_is_wrong_everywhere():
    assert not group_hits(torch.ones(1, 2, 2))["group"].any()
    assert not chosen_right(torch.ones(1, 1), torch.ones(1, 1)).any()
    assert area_under_curve(torch.ones(3), torch.ones(2))[0] == 0


def test_nan_is_told():
    with pytest.raises(NonFiniteError, match="choices: 1 scores are NaN"):
        check_finite_scores(torch.tensor([1.0, torch.nan]), "choices")


def test_table():
    lines = choice_table(
        [ChoiceFigure("swap", "accuracy", 10, 55.55, 1.2, 50.0, 1.3), ChoiceFigure("all", "auc", 6, 70.0, 2.0)]
    ).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["swap", "accuracy", "10", "55.5", "±", "1.2", "50.0", "±", "1.3"],
        ["all", "auc", "6", "70.0", "±", "2.0"],
    ]
    assert len({line.index("10") for line in lines if "10" in line}) == 1
