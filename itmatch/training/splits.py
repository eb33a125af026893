"""Telling one split of the data from another."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from itmatch.data import DataSource, ImageTextSplit, Tokenizer
from itmatch.data.tokenizers.base import digest
from itmatch.data.tokenizers.coverage import measure_coverage
from itmatch.ops.collectives import gather_values, is_distributed


def source_of(source: DataSource) -> DataSource:
    """Refuse what has no splits; a path has a method of that name, if it is a string."""
    if isinstance(source, str) or not callable(getattr(source, "split", None)):
        found = f"a {type(source).__qualname__}"
        raise TypeError(f"source: {found}, expected an itmatch.data.DataSource, such as PrecompFolder(FOLDER)")
    return source


def content_of(split: ImageTextSplit) -> str:
    """What a split holds, in words; another one where ids, captions or sizes differ."""
    content = digest([split.image_ids, split.captions, split.caption_image.tolist(), split.feature_dim])
    return f"{split.num_images} images with {split.num_captions} captions (digest {content})"


def tell_of_what_one_lacks(splits: Mapping[str, ImageTextSplit], stage: str) -> None:
    """Warn where a split has what that of the training lacks, or lacks what it has: the model meets something new.

    Raises:
        ValueError: the features of the two have different sizes.
    """
    if "train" not in splits:
        return
    train, other = splits["train"], splits[stage]
    if train.feature_dim != other.feature_dim:
        raise ValueError(
            f"{other.name}: features of size {other.feature_dim}, expected {train.feature_dim} as in {train.name}"
        )
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
