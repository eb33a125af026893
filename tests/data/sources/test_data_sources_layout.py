import numpy as np
import pytest

from itmatch.data.sources import layout
from itmatch.data.sources.layout import find_layout, per_image


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
    features = distinct(2)[[0, 0, 1, 1]]
    found = find_layout(features, 4, ["a", "b", "c", "c"], None, "x")
    assert found.image_ids == ["a", "b", "c"]
    assert found.rows.tolist() == [0, 1, 2]


def test_equal_rows_in_a_row_are_one_image_however_many_there_are():
    counts = [5, 4, 5, 1, 6, 10]
    features = distinct(6).repeat(counts, 0)
    found = find_layout(features, sum(counts), None, None, "x")
    assert found.rows.tolist() == [0, 5, 9, 14, 15, 21]
    assert np.bincount(found.caption_image).tolist() == counts
    ids = [f"caption {i}" for i in range(sum(counts))]
    assert find_layout(features, sum(counts), ids, None, "x").rows.tolist() == [0, 5, 9, 14, 15, 21]


@pytest.mark.parametrize("place", [(1, 0), (1, 99), (1, 30)])
def test_rows_have_to_be_equal_as_a_whole(place):
    """Twin scenes differ in one number."""
    features = np.ones((4, 3, 100), np.float32) * np.arange(1, 3).repeat(2)[:, None, None].astype(np.float32)
    features[(1, *place)] = 7
    assert find_layout(features, 4, None, None, "x").rows.tolist() == [0, 1, 2]


def test_whole_rows_are_read_only_where_their_ends_agree(monkeypatch):
    compared = []
    monkeypatch.setattr(layout.np, "array_equal", lambda *rows: compared.append(rows) or True)
    assert find_layout(distinct(50), 50, None, None, "x").rows is None
    assert compared == []
    find_layout(distinct(50)[[*range(50), 49]], 51, None, None, "x")
    assert len(compared) == 1


def test_rows_of_different_names_are_different_images_unless_most_repeat():
    features, ids = distinct(5)[[0, 1, 2, 2, 3, 4]], list("abcdef")
    found = find_layout(features, 6, ids, None, "x")
    assert (found.rows, found.image_ids) == (None, ids)
    assert find_layout(features, 6, None, None, "x").rows.tolist() == [0, 1, 2, 4, 5]


def test_as_many_ids_as_images_tell_equal_images_apart():
    features = distinct(3)[[0, 0, 1, 2]].repeat(2, 0)
    assert find_layout(features, 8, list("abcd"), None, "x").rows.tolist() == [0, 2, 4, 6]
    assert find_layout(features, 8, list("abc"), None, "x").rows.tolist() == [0, 4, 6]


def test_rows_of_zeros_are_no_evidence():
    """Images in which nothing was detected are equal and yet different ones."""
    features = distinct(6)
    features[2:4] = 0
    assert find_layout(features, 6, None, None, "x").rows is None
    assert find_layout(features.repeat(3, 0), 18, None, None, "x").rows.tolist() == [0, 3, 6, 9, 12, 15]
    assert find_layout(np.zeros_like(features), 6, None, None, "x").rows is None
    uneven = features.repeat([3, 2, 3, 2, 3, 1], 0)
    with pytest.raises(ValueError, match=r"x_ims\.npy: rows 5\.\.9 hold zeros alone.*give captions_per_image") as error:
        find_layout(uneven, 14, None, None, "x")
    assert "\n" not in str(error.value)
    ids = np.arange(6).repeat([3, 2, 3, 2, 3, 1]).astype(str).tolist()
    assert find_layout(uneven, 14, ids, None, "x").rows.tolist() == [0, 3, 5, 8, 10, 13]


def test_unlike_rows_are_not_one_image_because_an_id_says_so():
    with pytest.raises(ValueError, match=r"x_ims\.npy: rows 1 and 2 differ, but by x_ids\.txt they would be one image"):
        find_layout(distinct(3), 3, ["a", "b", "b"], None, "x")


def test_columns_with_a_row_a_caption(monkeypatch):
    monkeypatch.setattr(layout, "_BLOCK", 2)
    counts = [2, 3, 1]
    found = find_layout(distinct(3).repeat(counts, 0), 6, None, None, "x")
    boxes = distinct(3)
    boxes[1, 0] = np.nan
    np.testing.assert_array_equal(per_image(boxes.repeat(counts, 0), found, 6, "x_boxes.npy"), boxes)
    assert per_image(boxes, found, 6, "x_boxes.npy") is boxes
    assert per_image(np.arange(3).repeat(counts), found, 6, "x").tolist() == [0, 1, 2]
    assert per_image(np.zeros((6, 0)), found, 6, "x").shape == (3, 0)
    other = boxes.repeat(counts, 0)
    other[4, 1, 2] = 9
    with pytest.raises(ValueError, match=r"x_boxes\.npy: rows 3 and 4 differ, .* of one image \(image 1\)"):
        per_image(other, found, 6, "x_boxes.npy")
    with pytest.raises(ValueError, match=r"x: shape \(4,\), expected 3 rows \(images\) or 6 \(rows of _ims\.npy\)"):
        per_image(np.zeros(4), found, 6, "x")


@pytest.mark.parametrize("change", [np.asfortranarray, lambda features: features[::-1].copy()[::-1]])
def test_the_order_in_memory_does_not_matter(change):
    features = change(distinct(3).repeat([2, 1, 2], 0))
    assert find_layout(features, 5, None, None, "x").rows.tolist() == [0, 2, 3]
