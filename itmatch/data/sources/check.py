"""Looking at data before training: what is there, what is not, what is wrong. It does not stop at the first problem."""

from __future__ import annotations

from pathlib import Path

from itmatch.data.batching.validation import look_at_features
from itmatch.data.sources.check_karpathy import check_karpathy
from itmatch.data.sources.check_precomp import check_split, compare_splits
from itmatch.data.sources.check_report import CheckReport
from itmatch.data.sources.precomp import found_splits
from itmatch.data.tokenizers.vocabulary import Vocabulary
from itmatch.data.tokenizers.words import Tokenizer
from itmatch.formats.arrays import Array, open_array
from itmatch.formats.files import read_json, user_path
from itmatch.formats.messages import shown_keys
from itmatch.formats.word_vectors import check_word_vectors

_VECTOR_LINES = 10_000  # lines of word vectors that are looked at


def check_path(path: str | Path, tokenizer: Tokenizer | None = None) -> CheckReport:
    """Check a precomputed folder, a Karpathy json, a vocabulary json, a ``.npy`` file or a word-vector text file.

    Everything is read once, in blocks, so that the memory needed does not grow with the data.

    Args:
        path: of the folder or file.
        tokenizer: of whose unknown tokens the share in the captions is told; None = a :class:`WordTokenizer` with the
            words of the training captions ("train" and "restval").

    Example:
        >>> print(check_path("no/such/place"))
        no/such/place: nothing
          PROBLEM no/such/place: no such file or folder
        1 problem
    """
    path = user_path(path)
    if not path.exists():
        return CheckReport(str(path), "nothing", problems=[f"{path}: no such file or folder"])
    if path.is_dir():
        return _check_folder(path, tokenizer)
    if path.suffix == ".json":
        return _check_json(path, tokenizer)
    if path.suffix == ".npy":
        return _check_array(path)
    return _check_vectors(path)


def _check_folder(path: Path, tokenizer: Tokenizer | None) -> CheckReport:
    report = CheckReport(str(path), "folder of precomputed features")
    splits = found_splits(path)
    if not splits:
        report.kind = "folder"
        report.problems.append(f"{path}: neither a SPLIT_ims.npy nor a SPLIT_caps.txt in it")
    ids: dict[str, list[str]] = {}
    captions: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for split in splits:
        checked = check_split(path / split)
        report.found += [f"{split}: {line}" for line in checked.found]
        report.problems += checked.problems
        report.warnings += checked.warnings
        if checked.missing:
            report.missing.append(", ".join(checked.missing))
        captions[split] = checked.captions
        if checked.image_ids is not None:
            ids[split] = checked.image_ids
        if checked.feature_dim is not None:
            sizes[split] = checked.feature_dim
    report.problems += compare_splits(path, ids, sizes)
    report.add_coverage(captions, ("train",), tokenizer)
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
        report.problems, report.warnings = look_at_features(array, str(path), padded=True)
    return report


def _check_vectors(path: Path) -> CheckReport:
    report = CheckReport(str(path), "word vectors")
    try:
        count, size = check_word_vectors(path, _VECTOR_LINES)
    except ValueError as error:
        report.problems.append(str(error))
        return report
    report.found.append(f"{count}{' or more' if count >= _VECTOR_LINES - 1 else ''} words of {size} numbers")
    return report


def _check_json(path: Path, tokenizer: Tokenizer | None) -> CheckReport:
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
        return check_karpathy(path, content["images"], tokenizer)
    problem = f"{path}: neither 'images' (annotations) nor 'word2idx' (vocabulary); keys there: {shown_keys(content)}"
    return CheckReport(str(path), "json", problems=[problem])


__all__ = ["CheckReport", "check_path"]
