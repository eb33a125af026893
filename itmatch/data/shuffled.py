"""Training captions of wrong images, made on purpose: how well does a training stand it?"""

from __future__ import annotations

from copy import copy

import numpy as np

from itmatch.data.split import ImageTextSplit
from itmatch.ops.checks import check_share


def shuffle_captions(split: ImageTextSplit, share: float, seed: int = 0) -> ImageTextSplit:
    """A split in which a share of the captions have exchanged their images; none of these keeps its own.

    Which captions, and how, follows from the number of captions, their images and the seed alone. What else a caption
    has (its relations) goes with it; the pairs of twin scenes are dropped.

    Args:
        split: captions of images.
        share: of the captions, rounded to a whole number of them.
        seed: of the choice.

    Source:
        The protocol of noisy correspondence of Huang et al., NeurIPS 2021 (NCR).

    Deviation:
        There the images of the chosen captions are permuted at random, so a few captions keep theirs.

    Raises:
        ValueError: the split is a gallery; or so many of the chosen captions are of one image that they cannot part.

    Example:
        >>> split = ImageTextSplit(np.ones((4, 1, 2), np.float16), ["a", "b", "c", "d"], np.arange(4))
        >>> mixed = shuffle_captions(split, 0.5)
        >>> int((mixed.caption_image != split.caption_image).sum()), sorted(mixed.caption_image.tolist())
        (2, [0, 1, 2, 3])
    """
    split.check_pairs("shuffle_captions")
    count = round(check_share("share", share) * split.num_captions)
    random = np.random.default_rng(seed)
    chosen = random.permutation(split.num_captions)[:count]
    rank = random.permutation(split.num_images)  # images in a random order
    chosen = chosen[np.argsort(rank[split.caption_image[chosen]], kind="stable")]  # those of an image stand together
    owners = split.caption_image[chosen]
    most = int(np.bincount(owners).max()) if count else 0
    if count and count < 2 * most:
        raise ValueError(
            f"{split.name}: {most} of the {count} captions to be shuffled are of one image, expected at most half"
        )
    mixed = copy(split)
    mixed.caption_image = split.caption_image.copy()
    if count:
        mixed.caption_image[chosen] = np.roll(owners, int(random.integers(most, count - most + 1)))
    mixed.caption_twin = mixed.caption_twin_kind = None
    return mixed
