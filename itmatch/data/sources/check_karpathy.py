"""Checking annotations of Karpathy's splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itmatch.data.batching.validation import caption_problems
from itmatch.data.sources.check_report import CheckReport
from itmatch.data.sources.karpathy import KEYS, text_of
from itmatch.data.tokenizers.words import Tokenizer
from itmatch.formats.messages import shown


def check_karpathy(path: Path, images: list[Any], tokenizer: Tokenizer | None = None) -> CheckReport:
    """Look at the list ``images`` of a json of annotations."""
    report = CheckReport(str(path), "annotations of Karpathy's splits")
    counts: Counter[str] = Counter()
    captions: dict[str, list[str]] = {}
    names: dict[str, dict[Any, int]] = {key: {} for key in KEYS}
    for index, image in enumerate(images):
        where = f"{path}: images[{index}]"
        if not isinstance(image, dict):
            report.problems.append(f"{where} is a {type(image).__name__}, expected a dict")
            continue
        for key, kind in (("split", str), ("filename", str), ("sentences", list)):
            if not isinstance(image.get(key), kind):
                report.problems.append(f"{where} has no {key!r} ({kind.__name__})")
        for key in KEYS:
            if key in image and names[key].setdefault(str(image[key]), index) != index:
                report.problems.append(
                    f"{where} has the {key} of images[{names[key][str(image[key])]}]: {shown(image[key])}"
                )
        sentences = image.get("sentences")
        sentences = sentences if isinstance(sentences, list) else []
        report.problems += _sentence_problems(sentences, where)
        split = str(image.get("split"))
        counts[split] += 1
        captions.setdefault(split, []).extend(filter(None, map(text_of, sentences)))
    report.found += [f"{split}: {counts[split]} images, {len(captions[split])} captions" for split in sorted(counts)]
    report.add_coverage(captions, ("train", "restval"), tokenizer)
    if not images:
        report.problems.append(f"{path}: 'images' is empty")
    return report


def _sentence_problems(sentences: list[Any], where: str) -> Iterator[str]:
    if not sentences:
        yield f"{where}: no sentences"
    for index, sentence in enumerate(sentences):
        text = text_of(sentence)
        if text is None:
            yield f"{where}.sentences[{index}]: no text in 'raw'"
        else:
            yield from caption_problems([text], f"{where}.sentences[{index}]")
