"""Checking json files of captions, Karpathy's or COCO's own, alone or against the features of their images."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.data.check.features import SeenSplit, compare_splits, look_at_features
from itmatch.data.check.report import CheckReport
from itmatch.data.sources.caption_json import KEYS, AnnotatedImage, is_of_coco, look_at_annotations, without_sentences
from itmatch.data.sources.karpathy import KarpathyJson
from itmatch.data.split import ImageTextSplit
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.formats.messages import counted, shown

_STAGES = {"train": "train", "val": "val", "test": "test"}
_USUAL = 5  # captions per image that the protocols expect


def check_annotations(
    path: Path, content: dict[str, Any], features: Path | None = None, tokenizer: Tokenizer | None = None
) -> CheckReport:
    """Look at all images of a json, and at their features where it is said where these are."""
    coco = is_of_coco(content)
    report = CheckReport(str(path), "COCO's captions" if coco else "annotations of Karpathy's splits")
    images, report.problems = look_at_annotations(path, content)
    report.problems += [problem for image in images for problem in image.problems()]
    _note_names(report, images)
    splits = sorted({image.split for image in images})
    by_split = {split: [image for image in images if image.split == split] for split in splits}
    report.problems += [problem for chosen in by_split.values() for problem in without_sentences(chosen)]
    galleries = [split for split, chosen in by_split.items() if not any(image.sentences for image in chosen)]
    whole = not report.problems
    captions: dict[str, list[str]] = {}
    seen: dict[str, SeenSplit] = {}
    for split, chosen in by_split.items():
        texts = [image.captions() for image in chosen if not any(image.problems())]
        captions[split] = [text for found in texts for text in found if text]
        part = CheckReport(str(path), "split")
        told = f"{counted(len(chosen), 'images')}, {counted(len(captions[split]), 'captions')}{_per_image(texts)}"
        part.found.append(
            f"a gallery, {counted(len(chosen), 'images')} without captions" if split in galleries else told
        )
        dataset = part.attempt(partial(_open, path, features, split, chosen)) if whole else None
        if dataset is not None:
            seen[split] = SeenSplit(dataset.image_ids)
        if dataset is not None and features is not None:
            seen[split].feature_dim = dataset.feature_dim
            seen[split].prints = look_at_features(part, dataset.features, dataset.name, names=dataset.image_ids)
        report.add_part(split, part)
    compare_splits(report, seen)
    if "restval" in splits:
        report.found.append('restval: is in no stage; --data.source.train "[train, restval]" trains on it, too')
    report.note_splits(splits, _STAGES, galleries=galleries)
    report.add_coverage(captions, ("train", "restval") if not coco else splits, tokenizer)
    return report


def _open(path: Path, features: Path | None, split: str, images: list[AnnotatedImage]) -> ImageTextSplit:
    """The split as training reads it, with features that say nothing where there are none."""
    if features is not None:
        return KarpathyJson(path, features, train=split).split("train")
    texts = [image.captions() for image in images]
    return ImageTextSplit(
        np.zeros((len(images), 1, 1), np.float32),
        [text for found in texts for text in found],
        np.repeat(np.arange(len(texts)), [len(found) for found in texts]),
        image_ids=[image.image_id for image in images],
        blank_captions="drop",
        name=f"{path} ({split})",
    )


def _note_names(report: CheckReport, images: list[AnnotatedImage]) -> None:
    """Note images that have a name of another one."""
    for key in KEYS:
        first: dict[str, AnnotatedImage] = {}
        for image in images:
            other = first.setdefault(str(image.names[key]), image) if key in image.names else image
            if other is not image:
                report.warnings.append(f"{image.where} has the {key} of {other.where}: {shown(image.names[key])}")


def _per_image(texts: list[list[str]]) -> str:
    numbers = Counter(map(len, texts))
    if not numbers:
        return ""
    least, most = min(numbers), max(numbers)
    if least == most:
        return f" ({least} per image)"
    cut = f"; captions_per_image: {_USUAL} takes the first {_USUAL} of each" if least >= _USUAL else ""
    return f" ({least} to {most} per image{cut})"
