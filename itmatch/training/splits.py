"""Telling one split of the data from another."""

from __future__ import annotations

from itmatch.data import ImageTextSplit
from itmatch.data.tokenizers.words import digest
from itmatch.ops.collectives import gather_values, is_distributed


def content_of(split: ImageTextSplit) -> str:
    """What a split holds, in words; another one where ids, captions or sizes differ."""
    content = digest([split.image_ids, split.captions, split.caption_image.tolist(), split.feature_dim])
    return f"{split.num_images} images with {split.num_captions} captions (digest {content})"


def check_same_everywhere(name: str, split: ImageTextSplit) -> None:
    """Raise on every process if two have read other ids or captions; each would otherwise wait for the others."""
    if not is_distributed():
        return
    found = gather_values(content_of(split))
    other = next((process for process, one in enumerate(found) if one != found[0]), None)
    if other is not None:
        raise ValueError(
            f"the split {name!r} ({split.name}) differs between the processes: process 0 has {found[0]}, process "
            f"{other} has {found[other]}"
        )
