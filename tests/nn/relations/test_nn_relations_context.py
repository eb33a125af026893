"""ContextualOrder: the order it goes in, and that padding plays no part."""

import pytest
import torch
from helpers_relations import LENGTHS, MASK, SIZE, moved, random_boxes, random_features

from itmatch.nn import ContextualOrder


def relation(order="given"):
    torch.manual_seed(0)
    return moved(ContextualOrder(SIZE, order).double())


def raster(boxes):
    """Places of one image's boxes, in raster order."""
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()
    return sorted(range(len(centres)), key=lambda i: (min(int(centres[i][1] * 4), 3), centres[i][0]))


@pytest.mark.parametrize("order", ["given", "raster"])
def test_one_row_after_the_other(order):
    module, features, boxes = relation(order), random_features(), random_boxes()
    found = module(features, MASK, boxes)
    for row, length in enumerate(LENGTHS):
        places = raster(boxes[row, :length]) if order == "raster" else list(range(length))
        hidden, _ = module.rnn(features[row, places][None])
        mean = (hidden[0, :, :SIZE] + hidden[0, :, SIZE:]) / 2
        expected = features[row, places] + module.output(mean)
        torch.testing.assert_close(found[row, places], expected)
        assert bool((found[row, length:] == 0).all())


def test_the_raster_order_is_not_the_given_one():
    assert raster(random_boxes()[0, : LENGTHS[0]]) != list(range(LENGTHS[0]))


def test_identity_at_the_start():
    features = random_features(torch.float32).masked_fill(~MASK[..., None], 0)
    assert torch.equal(ContextualOrder(SIZE)(features, MASK), features)


@pytest.mark.parametrize("order", ["given", "raster"])
def test_holes_and_nan_in_the_padding(order):
    module, features, boxes = relation(order), random_features(), random_boxes()
    mask = torch.tensor([[True, False, True, True, False, True]])
    expected = module(features[:1, mask[0]], mask[:, mask[0]], boxes[:1, mask[0]])
    features[:1, ~mask[0]] = boxes[:1, ~mask[0]] = float("nan")
    torch.testing.assert_close(module(features[:1], mask, boxes[:1])[:, mask[0]], expected)


def test_errors():
    with pytest.raises(ValueError, match="'random', expected 'given' or 'raster'"):
        ContextualOrder(8, "random")
    with pytest.raises(ValueError, match="no boxes"):
        relation("raster")(random_features(), MASK)
