"""Checking a folder of precomputed features, split by split and file by file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from itmatch.data.batching import validation
from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.check.features import SeenSplit, compare_splits, look_at_features
from itmatch.data.check.report import CheckReport
from itmatch.data.sources.boxes import boxes_file, open_boxes
from itmatch.data.sources.features import ArrayFeatures, open_features
from itmatch.data.sources.galleries import SplitTexts, gallery_layout, read_texts
from itmatch.data.sources.layout import Layout, find_layout, per_image
from itmatch.data.sources.precomp import PrecompFolder, found_splits
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.formats.arrays import Array, open_array
from itmatch.formats.files import read_json
from itmatch.formats.messages import counted
from itmatch.formats.text import read_lines

_SMALL = 0.5  # of the side of an image, beyond which some box goes wherever boxes are right


class SplitCheck(CheckReport):
    """What was seen of a split, and what of it is compared with the others."""

    def __init__(self, where: Path) -> None:
        super().__init__(str(where), "split")
        self.where = where
        self.captions: list[str] = []
        self.is_gallery = False
        self.seen = SeenSplit()


def check_precomp(path: Path, tokenizer: Tokenizer | None) -> CheckReport:
    """Look at all splits of a folder of precomputed features, file by file."""
    report = CheckReport(str(path), "folder of precomputed features")
    splits = {split: check_split(path / split) for split in found_splits(path)}
    for split, checked in splits.items():
        report.add_part(split, checked)
    compare_splits(report, {split: checked.seen for split, checked in splits.items()})
    galleries = [split for split, checked in splits.items() if checked.is_gallery]
    report.note_splits(list(splits), {"train": "train", "val": "dev", "test": "test"}, galleries=galleries)
    captions = {split: checked.captions for split, checked in splits.items()}
    report.add_coverage(captions, [split for split in ("train",) if split not in galleries], tokenizer)
    return report


def check_split(where: Path) -> SplitCheck:
    """Look at all files ``{where}_*``; where none is wrong, the reader itself has the last word."""
    check = SplitCheck(where)
    features = check.attempt(lambda: open_features(f"{where}_ims.npy"))
    texts = check.attempt(lambda: read_texts(where))
    ids_file = Path(f"{where}_ids.txt")
    ids = check.attempt(lambda: [line.strip() for line in read_lines(ids_file)]) if ids_file.exists() else None
    if not ids_file.exists():
        check.missing.append(ids_file.name)
    if texts is not None:
        check.captions, check.is_gallery = [caption for caption in texts.lines if caption], not texts.describe
        check.problems += validation.caption_problems(texts.lines, str(texts.path), blank=True)
    layout = lengths = None
    if features is not None and texts is not None:
        layout = check.attempt(partial(_layout, features, texts, ids, where))
    if layout is not None and texts is not None and features is not None:
        check.found.append(_numbers(layout, len(features), texts))
        check.seen.image_ids = layout.image_ids
        check.problems += validation.id_problems(layout.image_ids or [], str(ids_file))
        lengths = _check_columns(check, layout, features)
        if texts.lines:
            _check_caption_relations(check, texts.lines)
    if features is not None and 0 not in features.shape:
        check.found.append(f"features of {features.shape[1]} regions x {features.shape[2]}, {features.dtype}")
        store = ArrayFeatures(features, rows=None if layout is None else layout.rows, name=f"{where}_ims.npy")
        check.seen.feature_dim = store.feature_dim
        check.seen.prints = look_at_features(check, store, f"{where}_ims.npy", lengths=lengths)
    if not check.problems:
        check.attempt(lambda: PrecompFolder(where.parent, train=where.name).split("train"))
    return check


def _layout(features: Array, texts: SplitTexts, ids: list[str] | None, where: Path) -> Layout:
    if texts.describe:
        return find_layout(features, len(texts.lines), ids, None, str(where))
    return gallery_layout(features, len(texts.lines), ids, str(where))


def _numbers(layout: Layout, rows: int, texts: SplitTexts) -> str:
    captions = len(texts.lines)
    if not texts.describe:
        visible = sum(map(bool, texts.lines))
        searched = f"; {visible} texts in {texts.path.name} to search it with" if visible else ""
        return f"a gallery, {counted(layout.num_images, 'images')} without captions{searched}"
    counts, images = np.unique(np.bincount(layout.caption_image), return_counts=True)
    share = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    repeated = "" if layout.rows is None else f", stored once per caption ({rows} rows)"
    if repeated and len(counts) > 1:  # worth a look: a photo that comes twice is taken for one image
        shown = ", ".join(f"{n} of {k} rows" for n, k in zip(images[:5], counts[:5], strict=True))
        repeated += f", equal rows that follow each other taken for one: {shown}{', ...' if len(counts) > 5 else ''}"
    return f"{counted(layout.num_images, 'images')}{repeated}, {counted(captions, 'captions')} ({share} per image)"


def _check_columns(check: SplitCheck, layout: Layout, features: Array) -> Array | None:
    """Look at the files beside the features; gives the lengths, if there are good ones."""
    where, rows = check.where, len(features)
    shape = (layout.num_images, features.shape[1])
    optional: list[str] = []

    def column(path: Path | None, name: str) -> Array | None:
        if path is None or not path.exists():
            check.missing.append(f"{where.name}_{name}.npy")
            return None
        optional.append(path.name)
        return check.attempt(lambda: per_image(open_array(path), layout, rows, path))

    lengths = column(Path(f"{where}_lengths.npy"), "lengths")
    if lengths is not None:
        found = list(validation.length_problems(lengths, *shape, f"{where}_lengths.npy", least=0))
        check.problems += found
        lengths = None if found else lengths
    path_of_boxes = boxes_file(where)
    if path_of_boxes is None:
        check.missing.append(f"{where.name}_boxes.npy")
    else:
        optional.append(path_of_boxes.name)
    boxes = check.attempt(partial(open_boxes, where, layout, rows))
    if boxes is not None:
        found = list(validation.box_problems(boxes, *shape, str(path_of_boxes), lengths))
        check.problems += found
        if not found:
            _note_boxes(check, np.asarray(boxes, np.float32), lengths, str(path_of_boxes))
    label_files = sorted(where.parent.glob(f"{where.name}_*labels.npy")) or [Path(f"{where}_labels.npy")]
    for path in label_files:
        labels = column(path, "labels")
        if labels is not None:
            check.problems += validation.label_problems(labels, *shape, str(path))
    relations = column(Path(f"{where}_relations.npy"), "relations")
    if relations is not None:
        found = list(validation.relation_problems(relations, *shape, f"{where}_relations.npy", lengths))
        check.problems += found or _predicate_problems(relations, where.parent / "predicates.json", where)
    scores = column(Path(f"{where}_relation_scores.npy"), "relation_scores")
    if scores is not None and not Path(f"{where}_relations.npy").exists():
        check.warnings.append(f"{where}_relation_scores.npy: without {where.name}_relations.npy it is not read")
    elif scores is not None and relations is not None:
        check.problems += validation.score_problems(scores, relations, f"{where}_relation_scores.npy")
    if optional:
        check.found.append("with " + ", ".join(optional))
    return lengths


def _note_boxes(check: SplitCheck, boxes: Array, lengths: Array | None, where: str) -> None:
    """Note how much of the images the boxes cover, and boxes that were never filled or are of another scale."""
    shape = boxes.shape[:2]
    count = np.full(shape[0], shape[1]) if lengths is None else lengths
    real = np.asarray(np.arange(shape[1]) < count[:, None])  # (N, R)
    sides = boxes[..., 2:] - boxes[..., :2]
    areas = (sides[..., 0] * sides[..., 1])[real]
    outside = np.asarray(((boxes < 0) | (boxes > 1)).any(-1))[real]
    if not areas.size:
        return
    flat, largest = int((areas <= 0).sum()), float(boxes[real].max())
    cut = f", {int(outside.sum())} of {len(areas)} reach out a little and are cut" if outside.any() else ""
    check.found.append(f"boxes inside their images, of {100 * areas.mean():.3g} % of them in the mean{cut}")
    if 2 * flat > len(areas):
        check.warnings.append(f"{where}: {flat} of {len(areas)} boxes have no area")
    elif largest < _SMALL:
        check.warnings.append(f"{where}: no box goes beyond {largest:.2g} of a side; were they divided twice?")


def _predicate_problems(relations: Array, names_file: Path, where: Path) -> list[str]:
    """A predicate without a name, where the folder has names."""
    if not names_file.exists() or not relations.size:
        return []
    try:
        names = read_json(names_file, list)
    except (ValueError, OSError) as error:
        return [str(error)]
    most = int(np.where((relations != -1).all(-1), relations[..., 1], -1).max())
    if most < len(names):
        return []
    return [f"{where}_relations.npy: predicate {most}, expected 0..{len(names) - 1}, the names in {names_file}"]


def _check_caption_relations(check: SplitCheck, captions: list[str]) -> None:
    where = check.where
    files = sorted(where.parent.glob(f"{where.name}_*caption_relations.npz"))
    if not files:
        check.missing.append(f"{where.name}_caption_relations.npz")
    for path in files:
        relations = check.attempt(partial(CaptionRelations.load, path, captions))
        if relations is not None:
            check.found.append(f"{path.name}: {relations.summary()}")
            check.problems += relations.problems(captions, str(path))
