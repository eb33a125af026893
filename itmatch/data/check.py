"""Looking at data before training: what is there, what is not, what is wrong. It does not stop at the first problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from itmatch.data.arrays import Array, open_array
from itmatch.data.check_precomp import check_split, compare_splits
from itmatch.data.karpathy import KEYS
from itmatch.data.precomp import found_splits
from itmatch.data.validation import feature_problems
from itmatch.data.vocabulary import Vocabulary
from itmatch.files import read_json

_SHOWN = 50  # problems that are printed; the report holds all
_VECTOR_LINES = 10_000  # lines of a word-vector file that are looked at


@dataclass
class CheckReport:
    """What :func:`check_path` saw.

    Args:
        path: where it looked.
        kind: what it took the path for.
        found: sentences on what is there.
        missing: optional files that are not there.
        problems: sentences on what is wrong.
    """

    path: str
    kind: str
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; optional files may be missing."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.kind}", *(f"  {line}" for line in self.found)]
        lines += [f"  not there (optional): {line}" for line in self.missing]
        lines += [f"  PROBLEM {line}" for line in self.problems[:_SHOWN]]
        count = len(self.problems)
        lines += [f"  and {count - _SHOWN} more"] if count > _SHOWN else []
        return "\n".join([*lines, "ok" if self.ok else f"{count} problem{'s' if count > 1 else ''}"])


def check_path(path: str | Path) -> CheckReport:
    """Check a precomputed folder, a Karpathy json, a vocabulary json, a ``.npy`` file or a word-vector text file.

    Everything is read once, in blocks, so that the memory needed does not grow with the data.

    Example:
        >>> print(check_path("no/such/place"))
        no/such/place: nothing
          PROBLEM no/such/place: no such file or folder
        1 problem
    """
    path = Path(path)
    if not path.exists():
        return CheckReport(str(path), "nothing", problems=[f"{path}: no such file or folder"])
    if path.is_dir():
        return _check_folder(path)
    if path.suffix == ".json":
        return _check_json(path)
    if path.suffix == ".npy":
        return _check_array(path)
    return _check_vectors(path)


def _check_folder(path: Path) -> CheckReport:
    report = CheckReport(str(path), "folder of precomputed features")
    splits = found_splits(path)
    if not splits:
        report.kind = "folder"
        report.problems.append(f"{path}: neither a SPLIT_ims.npy nor a SPLIT_caps.txt in it")
    ids: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for split in splits:
        checked = check_split(path / split)
        report.found += [f"{split}: {line}" for line in checked.found]
        report.problems += checked.problems
        if checked.missing:
            report.missing.append(", ".join(checked.missing))
        if checked.image_ids is not None:
            ids[split] = checked.image_ids
        if checked.feature_dim is not None:
            sizes[split] = checked.feature_dim
    report.problems += compare_splits(path, ids, sizes)
    return report


def _check_array(path: Path) -> CheckReport:
    report = CheckReport(str(path), "array")
    try:
        array: Array = open_array(path)
    except ValueError as error:
        report.problems.append(str(error))
        return report
    report.found.append(f"shape {array.shape}, {array.dtype}")
    if array.dtype.kind == "f" and array.ndim:
        report.problems += feature_problems(array, str(path))
    return report


def _check_json(path: Path) -> CheckReport:
    try:
        content = read_json(path)
    except ValueError as error:
        return CheckReport(str(path), "json", problems=[str(error)])
    if "word2idx" in content or "idx2word" in content:
        report = CheckReport(str(path), "vocabulary")
        try:
            report.found.append(f"{len(Vocabulary.from_json(path))} words, the specials included")
        except ValueError as error:
            report.problems.append(str(error))
        return report
    if isinstance(content.get("images"), list):
        return _check_karpathy(path, content["images"])
    there = ", ".join(sorted(content)) or "none"
    problem = f"{path}: neither 'images' (annotations) nor 'word2idx' (vocabulary); keys there: {there}"
    return CheckReport(str(path), "json", problems=[problem])


def _check_karpathy(path: Path, images: list[Any]) -> CheckReport:
    report = CheckReport(str(path), "annotations of Karpathy's splits")
    counts: dict[str, tuple[int, int]] = {}
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
                    f"{where} has the {key} of images[{names[key][str(image[key])]}]: {image[key]!r}"
                )
        sentences = image.get("sentences")
        sentences = sentences if isinstance(sentences, list) else []
        report.problems += _sentence_problems(sentences, where)
        have = counts.get(str(image.get("split")), (0, 0))
        counts[str(image.get("split"))] = (have[0] + 1, have[1] + len(sentences))
    report.found += [f"{split}: {i} images, {c} captions" for split, (i, c) in sorted(counts.items())]
    if not images:
        report.problems.append(f"{path}: 'images' is empty")
    return report


def _sentence_problems(sentences: list[Any], where: str) -> Iterator[str]:
    if not sentences:
        yield f"{where}: no sentences"
    for index, sentence in enumerate(sentences):
        raw = sentence.get("raw") if isinstance(sentence, dict) else None
        if not isinstance(raw, str) or not raw.strip():
            yield f"{where}.sentences[{index}]: no text in 'raw'"


def _check_vectors(path: Path) -> CheckReport:
    """A first look at GloVe or fastText text: a word and its numbers on every line."""
    report = CheckReport(str(path), "word vectors")
    size: int | None = None
    count = 0
    with path.open("rb") as file:
        for line, raw in enumerate(islice(file, _VECTOR_LINES), 1):
            parts = raw.decode("utf-8", "replace").rstrip().split(" ")
            if line == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                size = int(parts[1])  # the header of fastText: number of words, size
                continue
            size = len(parts) - 1 if size is None else size
            problem = _vector_problem(parts, size)
            if problem:
                report.problems.append(f"{path}:{line}: {problem}")
                break  # in a file of another kind every line would be one
            count += 1
    if count == 0 and not report.problems:
        report.problems.append(f"{path}: empty")
    elif count:
        report.found.append(f"{count}{' or more' if count >= _VECTOR_LINES - 1 else ''} words of {size} numbers")
    return report


def _vector_problem(parts: list[str], size: int) -> str | None:
    try:
        numbers = [float(part) for part in parts[-size:]] if size > 0 else []  # a word may hold a blank
    except ValueError:
        return f"expected a word and {size} numbers"
    if len(parts) < size + 1 or size == 0:
        return f"{len(parts) - 1} numbers after the word, expected {size or 'some'}"
    return None if all(map(math.isfinite, numbers)) else "NaN or inf"


__all__ = ["CheckReport", "check_path"]
