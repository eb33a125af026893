import numpy as np
import pytest

from itmatch.data import layout
from itmatch.data.layout import find_layout


def distinct(rows):
    return np.random.default_rng(0).standard_normal((rows, 2, 3)).astype(np.float16)


def test_share_follows_from_the_numbers():
    found = find_layout(distinct(3), 6, None, None, "x")
    assert found.rows is None
    assert found.caption_image.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.num_images == 3


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_repeated_rows_are_found_across_blocks(monkeypatch, block):
    monkeypatch.setattr(layout, "_BLOCK", block)
    found = find_layout(distinct(3).repeat(4, 0), 12, None, None, "x")
    assert found.rows.tolist() == [0, 4, 8]


def test_rows_equal_in_one_region_alone_are_different():
    features = distinct(4)
    features[:, 0] = 1
    assert find_layout(features, 4, None, None, "x").rows is None


def test_rows_with_nan_can_repeat():
    features = distinct(2)
    features[0, 0, 0] = np.nan
    assert find_layout(features.repeat(2, 0), 4, None, None, "x").rows.tolist() == [0, 2]


def test_ids_win_over_equal_rows():
    """Two photographs with equal features are two images when their ids say so."""
    features = distinct(3)[[0, 0, 1, 2]]
    found = find_layout(features, 4, ["a", "b", "c", "c"], None, "x")
    assert found.image_ids == ["a", "b", "c"]
    assert found.rows.tolist() == [0, 1, 2]
