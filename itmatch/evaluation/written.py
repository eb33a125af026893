"""The ranks of a test, as a run writes them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from itmatch.evaluation.ranks import RetrievalRanks
from itmatch.formats.npz import read_npz


class WrittenRanks(NamedTuple):
    """What :func:`itmatch.training.report.write_ranks` writes.

    Args:
        ranks: of every query.
        caption_image: (T,) the image of each caption.
        of: ids of the images, and a hash of the captions.
    """

    ranks: RetrievalRanks
    caption_image: Tensor
    of: tuple[list[str], str]


def read_ranks(path: Path) -> WrittenRanks:
    """The ranks of a test.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken, or of no test.
    """
    names = ("image_to_text", "text_to_image", "caption_image", "image_ids", "captions_digest")
    arrays = read_npz(path, names)
    images, captions = (arrays[name].size for name in names[:2])
    for name, length, lowest, most in (
        ("image_to_text", images, -1, captions),  # -1: an image without captions
        ("text_to_image", captions, 0, images),
        ("caption_image", captions, 0, images),
    ):
        array = arrays[name]
        if array.shape != (length,) or array.dtype.kind not in "iu":
            raise ValueError(
                f"{path}: {name}: {array.dtype} of shape {array.shape}, expected integers of shape ({length},)"
            )
        if length == 0 or not lowest <= int(array.min()) <= int(array.max()) < most:
            found = f"{int(array.min())}..{int(array.max())}" if length else "nothing"
            raise ValueError(f"{path}: {name}: {found}, expected numbers of {lowest} to {most - 1}")
    if arrays["image_ids"].shape != (images,) or arrays["image_ids"].dtype.kind != "U":
        raise ValueError(f"{path}: image_ids: {arrays['image_ids'].dtype}, expected {images} names")
    first, second, image = (torch.from_numpy(arrays[name].astype("int64")) for name in names[:3])
    if not bool((first >= 0).any()):
        raise ValueError(f"{path}: image_to_text: no image is a query")
    of = arrays["image_ids"].tolist(), str(arrays["captions_digest"])
    return WrittenRanks(RetrievalRanks(first, second), image, of)
