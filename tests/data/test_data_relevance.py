"""How well captions fit images, from the words they share."""

import math
import re

import numpy as np
import pytest
import torch

from itmatch.data import CaptionOverlap, ImageTextSplit, RelationScenes

CAPTIONS = ["A dog runs.", "a dog, a DOG!", "two cats on grass", "!?", "the cats", "a dog on the grass", "red"]
IMAGE = [2, 0, 1, 1, 3, 2, 0]  # not in order; image 4 has no caption


def split():
    return ImageTextSplit(np.ones((5, 1, 2), np.float32), CAPTIONS, np.array(IMAGE))


def naive():
    """Relevance (images, captions) of the largest cosine and of the mean one, by the formula."""
    words = [re.findall(r"\w+", text.lower()) for text in CAPTIONS]
    having = {word: sum(word in found for found in words) for found in words for word in found}
    vectors = []
    for found in words:
        vector = {w: found.count(w) * (1 + math.log((1 + len(words)) / (1 + having[w]))) for w in found}
        length = math.sqrt(sum(value**2 for value in vector.values())) or 1
        vectors.append({word: value / length for word, value in vector.items()})
    cosine = [[sum(v * b.get(w, 0) for w, v in a.items()) for b in vectors] for a in vectors]
    largest, mean = torch.zeros(5, 7), torch.zeros(5, 7)
    for image in range(4):
        own = [cosine[c] for c in range(7) if IMAGE[c] == image]
        for caption in range(7):
            column = [row[caption] for row in own]
            largest[image, caption], mean[image, caption] = max(column), sum(column) / len(column)
    return largest, mean


@pytest.mark.parametrize("over", ["max", "mean"])
def test_equals_the_formula(over):
    overlap = CaptionOverlap(over)
    overlap.setup(split())
    expected = naive()[over == "mean"]
    torch.testing.assert_close(overlap(torch.arange(5), torch.arange(7)), expected)
    images, captions = torch.tensor([2, 0, 2, 4]), torch.tensor([6, 3, 6])  # any of them, in any order, again
    torch.testing.assert_close(overlap(images, captions), expected[images][:, captions])


def test_own_captions_fit_fully():
    train = RelationScenes("easy", num_train=8).split("train")
    overlap = CaptionOverlap()
    overlap.setup(train)
    found = overlap(torch.arange(train.num_images), torch.arange(train.num_captions))
    own = torch.as_tensor(train.caption_image) == torch.arange(train.num_images)[:, None]
    assert torch.allclose(found[own], torch.ones(()))
    assert found[~own].max() <= 1
    assert found[~own].std() > 0.05


def test_before_setup_there_is_nothing_to_say():
    with pytest.raises(RuntimeError, match=r"called before setup\(split\)"):
        CaptionOverlap()(torch.arange(2), torch.arange(2))


def test_bad_settings():
    with pytest.raises(ValueError, match="over: 'least', expected 'max' or 'mean'"):
        CaptionOverlap("least")
