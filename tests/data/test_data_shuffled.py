import numpy as np
import pytest

from itmatch.data import ImageTextSplit, RelationScenes, shuffle_captions


def a_split(images=20, each=5):
    captions = [f"caption {i} of image {i // each}" for i in range(images * each)]
    return ImageTextSplit(np.ones((images, 2, 3), np.float16), captions, np.arange(images * each) // each)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_share_has_other_images_and_the_rest_its_own(share, seed):
    split = a_split()
    mixed = shuffle_captions(split, share, seed)
    assert (mixed.caption_image != split.caption_image).sum() == share * 100
    assert np.array_equal(np.bincount(mixed.caption_image), np.bincount(split.caption_image))
    assert mixed.captions == split.captions
    assert np.array_equal(split.caption_image, np.arange(100) // 5)  # untouched


def test_the_same_every_time_and_another_with_another_seed():
    first, again, other = (shuffle_captions(a_split(), 0.4, seed).caption_image for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert shuffle_captions(a_split(), 0.4).caption(0).image == shuffle_captions(a_split(), 0.4).caption_image[0]


def test_wrong_images_are_any_images():
    """Each image gives its captions to many others, over the seeds, not to its neighbours alone."""
    takers = {shuffle_captions(a_split(), 1.0, seed).caption_image[0] for seed in range(60)}
    assert len(takers) > 12


def test_twins_are_dropped():
    split = RelationScenes(num_train=8).split("train")
    assert split.caption_twin is not None
    mixed = shuffle_captions(split, 0.5)
    assert mixed.caption_twin is None
    assert mixed.caption_twin_kind is None


def test_one_image_cannot_exchange():
    with pytest.raises(ValueError, match="5 of the 5 captions to be shuffled are of one image, expected at most half"):
        shuffle_captions(a_split(1), 1.0)
    with pytest.raises(ValueError, match="shuffle_captions needs captions of images"):
        shuffle_captions(ImageTextSplit(np.ones((1, 1, 1), np.float16)), 0.5)
    with pytest.raises(ValueError, match="share"):
        shuffle_captions(a_split(), 1.5)
