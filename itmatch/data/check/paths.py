"""Looking at data before training: what is there, what is not, what is wrong. It does not stop at the first problem."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmatch.data.batching.validation import is_visible
from itmatch.data.check.annotations import check_annotations
from itmatch.data.check.features import look_at_features
from itmatch.data.check.photos import check_feature_files, check_photos, check_region_file
from itmatch.data.check.precomp import check_precomp
from itmatch.data.check.report import CheckReport
from itmatch.data.check.vectors import check_vectors
from itmatch.data.conversion.captions import is_numbered, numbered_captions
from itmatch.data.sources.features import ArrayFeatures
from itmatch.data.sources.images import photos_in
from itmatch.data.sources.layout import lists_in
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.data.tokenizers.vocabulary import Vocabulary
from itmatch.formats.arrays import open_array
from itmatch.formats.files import read_json, user_path
from itmatch.formats.messages import counted, shown_keys
from itmatch.formats.text import read_lines
from itmatch.formats.vocabularies import is_pickle

_TAKE_FEATURES = "json", "captions", "annotations of Karpathy's splits"  # ends of the kinds of reports


def check_path(
    path: str | Path, tokenizer: Tokenizer | None = None, *, features: str | Path | None = None
) -> CheckReport:
    """Check data of any layout that this library reads: folders, json of captions, vocabularies, arrays, word vectors.

    Everything is read once, image by image, so that the memory needed does not grow with the data.

    Args:
        path: a folder of precomputed features, of photos with lists of captions, or with a file of features per image;
            a json of captions (Karpathy's, COCO's own); a vocabulary (json, or pickled); a ``.npy`` file; numbered
            captions of photos (``.token``); or a text file of word vectors, packed by gzip or not.
        tokenizer: of whose unknown tokens the share in the captions is told; None = a :class:`WordTokenizer`. One that
            has to learn words learns those of the training captions ("train" and "restval").
        features: of a json of captions, the file or folder of its features; of lists of captions, the folder of the
            photos.

    Example:
        >>> print(check_path("no/such/place"))
        no/such/place: nothing
          PROBLEM no/such/place: no such file or folder
        1 problem
    """
    path, beside = user_path(path), None if features is None else user_path(features)
    if not path.exists():
        return CheckReport(str(path), "nothing", problems=[f"{path}: no such file or folder"])
    report = _check(path, beside, tokenizer)
    if beside is not None and not report.kind.endswith(_TAKE_FEATURES):
        told = "not looked at; it goes with a json of captions, or with lists of captions of photos"
        if beside.suffix == ".json" and beside.is_file():
            told = f"a json of captions, which comes first: itmatch data check {beside} --features {path}"
        report.problems.append(f"--features {beside}: {told}")
    return report


def _check(path: Path, beside: Path | None, tokenizer: Tokenizer | None) -> CheckReport:
    if path.is_dir():
        return _check_folder(path, beside, tokenizer)
    if path.suffix == ".npy":
        return _check_array(path)
    if is_pickle(path):
        return _check_vocabulary(path)
    if ".tsv" in path.suffixes or path.suffix in (".h5", ".hdf5"):
        return check_region_file(path)
    if path.suffix == ".json":
        return _check_json(path, beside, tokenizer)
    return _check_captions(path) if is_numbered(path) else check_vectors(path)


def _check_captions(path: Path) -> CheckReport:
    """Look at a file of numbered captions, of which lists can be made."""
    report = CheckReport(str(path), "numbered captions of photos")
    found = report.attempt(lambda: numbered_captions([path], [read_lines(path)]))
    if found is not None:
        texts = [text for _, group in found.values() for text in group]
        blank = sum(not is_visible(text) for text in texts)
        report.found.append(f"{counted(len(texts), 'captions')} of {counted(len(found), 'photos')}")
        report.warnings += [f"{path}: {counted(blank, 'blank captions')}"] * bool(blank)
        report.not_ready = f"`itmatch data convert {path} --split NAME=FILE --out FOLDER` makes lists of them"
    return report


def _check_folder(path: Path, beside: Path | None, tokenizer: Tokenizer | None) -> CheckReport:
    if any(path.glob("*_ims.npy")):
        return check_precomp(path, tokenizer)
    if any(lists_in(path).glob("*_ids.txt")):
        return check_photos(path, beside, tokenizer)
    if any(path.glob("*_caps.txt")):
        return check_precomp(path, tokenizer)
    if any(path.glob("*.np[yz]")):
        return check_feature_files(path)
    if photos_in(path if beside is None else beside):
        return check_photos(path, beside, tokenizer)
    if (path / "features.tsv").exists():
        return check_region_file(path)
    if tables := sorted(file for ending in (".tsv", ".tsv.*", ".h5", ".hdf5") for file in path.glob(f"*{ending}")):
        return check_region_file(*(tables if ".tsv" in tables[0].suffixes else tables[:1]))
    wanted = "neither a SPLIT_ims.npy, a SPLIT_caps.txt, nor a SPLIT_ids.txt in it"
    return CheckReport(str(path), "folder", problems=[f"{path}: {wanted}"])


def _check_array(path: Path) -> CheckReport:
    report = CheckReport(str(path), "array")
    array = report.attempt(lambda: open_array(path))
    if array is None:
        return report
    report.found.append(f"shape {array.shape}, {array.dtype}")
    if array.ndim == 3 and array.dtype in ("float16", "float32", "float64") and 0 not in array.shape:
        look_at_features(report, ArrayFeatures(array, name=str(path)), str(path))
    elif array.dtype.kind == "f" and array.ndim:
        bad = next((row for row in range(len(array)) if not np.isfinite(array[row]).all()), None)
        report.problems += [] if bad is None else [f"{path}: row {bad}: NaN or inf"]
    return report


def _check_vocabulary(path: Path) -> CheckReport:
    report = CheckReport(str(path), "vocabulary")
    vocabulary = report.attempt(lambda: Vocabulary.from_file(path))
    report.found += [] if vocabulary is None else [f"{len(vocabulary)} words, the specials included"]
    return report


def _check_json(path: Path, beside: Path | None, tokenizer: Tokenizer | None) -> CheckReport:
    report = CheckReport(str(path), "json")
    content = report.attempt(lambda: read_json(path))
    if content is None:
        return report
    if "word2idx" in content or "idx2word" in content:
        return _check_vocabulary(path)
    if isinstance(content.get("images"), list):
        return check_annotations(path, content, beside, tokenizer)
    problem = f"{path}: neither 'images' (captions) nor 'word2idx' (vocabulary); keys there: {shown_keys(content)}"
    report.problems.append(problem)
    return report


__all__ = ["CheckReport", "check_path"]
