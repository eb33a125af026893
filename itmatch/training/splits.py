"""Telling one split of the data from another."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from itmatch.data import ImageTextSplit, Tokenizer
from itmatch.data.tokenizers.base import digest
from itmatch.data.tokenizers.coverage import measure_coverage
from itmatch.ops.collectives import gather_values, is_distributed


def content_of(split: ImageTextSplit) -> str:
    """What a split holds, in words; another one where ids, captions or sizes differ."""
    content = digest([split.image_ids, split.captions, split.caption_image.tolist(), split.feature_dim])
    return f"{split.num_images} images with {split.num_captions} captions (digest {content})"


def tell_of_what_one_lacks(splits: Mapping[str, ImageTextSplit], stage: str) -> None:
    """Warn where a split has what that of the training lacks, or lacks what it has: the model meets something new."""
    if "train" not in splits:
        return
    for name in ("boxes", "labels", "relations", "caption_relations"):
        trained, found = (getattr(splits[split], name) is not None for split in ("train", stage))
        if trained != found:
            having, lacking = ("train", stage) if trained else (stage, "train")
            rank_zero_warn(f"the split {having!r} has {name} and {lacking!r} has none; both should")


def check_coverage(tokenizer: Tokenizer, split: ImageTextSplit) -> None:
    """Tell how much of the captions is unknown to the tokenizer.

    Raises:
        ValueError: next to all of it is.
    """
    coverage = measure_coverage(tokenizer, split.captions, split.name) if split.captions else None
    if coverage is not None and coverage.hopeless:
        raise ValueError(str(coverage))
    if coverage is not None:
        (rank_zero_warn if coverage.doubtful else rank_zero_info)(str(coverage))


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
