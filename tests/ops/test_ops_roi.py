import math

import pytest
import torch

from itmatch.ops.roi import roi_align, roi_features


def bilinear(values, y, x):
    """Of (H, W), as RoIAlign reads between places."""
    height, width = values.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = (1 - u) * values[top, left] + u * values[top, right]
    lower = (1 - u) * values[bottom, left] + u * values[bottom, right]
    return float((1 - v) * upper + v * lower)


def plain_roi_align(maps, boxes, bins):
    """RoIAlign with aligned=True and sampling_ratio=2, loop by loop."""
    images, channels, height, width = maps.shape
    result = torch.zeros(images, boxes.shape[1], channels, bins, bins, dtype=maps.dtype)
    for i in range(images):
        for r, (x1, y1, x2, y2) in enumerate(boxes[i].tolist()):
            left, top = x1 * width - 0.5, y1 * height - 0.5
            step_x, step_y = (x2 - x1) * width / bins, (y2 - y1) * height / bins
            for c in range(channels):
                for row in range(bins):
                    for column in range(bins):
                        down = [top + (row + share) * step_y for share in (0.25, 0.75)]
                        along = [left + (column + share) * step_x for share in (0.25, 0.75)]
                        points = [bilinear(maps[i, c], y, x) for y in down for x in along]
                        result[i, r, c, row, column] = sum(points) / 4
    return result


@pytest.mark.parametrize("bins", [1, 3])
def test_it_agrees_with_a_loop(bins):
    torch.manual_seed(0)
    maps, corners = torch.randn(2, 3, 5, 7), torch.rand(2, 6, 2, 2).sort(2).values
    boxes = corners.flatten(2)
    boxes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes[0, 1] = torch.tensor([0.5, 0.5, 0.5, 0.5])  # an empty box is read at its place
    expected = plain_roi_align(maps, boxes, bins)
    torch.testing.assert_close(roi_align(maps, boxes, bins), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(roi_features(maps, boxes, bins), expected.mean((3, 4)), atol=1e-5, rtol=0)


def test_gradients_and_half_precision():
    maps = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[[0.1, 0.2, 0.8, 0.7]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda values: roi_features(values, boxes, 2), maps)
    assert roi_features(maps.half(), boxes.float(), 2).dtype == torch.float32


def test_bins_that_are_none():
    with pytest.raises(ValueError, match="bins: 0"):
        roi_align(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 4), bins=0)
