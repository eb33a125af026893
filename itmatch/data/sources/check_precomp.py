"""Checking one split of a folder of precomputed features, file by file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from itmatch.data.batching import validation
from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.sources.layout import Layout, find_layout, per_image
from itmatch.data.sources.precomp import BOX_FILES, as_fractions, first_file
from itmatch.formats.arrays import Array, open_array
from itmatch.formats.files import read_json
from itmatch.formats.text import read_lines

_T = TypeVar("_T")


@dataclass
class SplitCheck:
    """What was seen of a split.

    Args:
        where: path of the split, without the endings.
        found: sentences on what is there.
        missing: names of optional files that are not there.
        problems: sentences on what is wrong.
        warnings: sentences on what may be wrong.
        captions: its captions, when they could be read.
        image_ids: its ids, when there are any.
        feature_dim: size of its features, when they could be opened.
    """

    where: Path
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    image_ids: list[str] | None = None
    feature_dim: int | None = None

    def attempt(self, function: Callable[[], _T]) -> _T | None:
        """The result, or None and a problem noted."""
        try:
            return function()
        except (ValueError, OSError) as error:
            self.problems.append(str(error))
            return None


def check_split(where: Path) -> SplitCheck:
    """Look at all files ``{where}_*``."""
    check = SplitCheck(where)
    features = check.attempt(lambda: open_array(f"{where}_ims.npy", ndim=3, dtypes=("float16", "float32")))
    captions = check.attempt(lambda: read_lines(f"{where}_caps.txt"))
    ids_file = Path(f"{where}_ids.txt")
    ids = check.attempt(lambda: [line.strip() for line in read_lines(ids_file)]) if ids_file.exists() else None
    if not ids_file.exists():
        check.missing.append(ids_file.name)
    if captions is not None:
        check.captions = captions
        check.problems += validation.caption_problems(captions, f"{where}_caps.txt")
    if features is None:
        return check
    check.feature_dim = features.shape[2]
    check.found.append(f"features of {features.shape[1]} regions x {features.shape[2]}, {features.dtype}")
    padded = Path(f"{where}_lengths.npy").exists()
    problems, check.warnings = validation.look_at_features(features, f"{where}_ims.npy", padded=padded)
    check.problems += problems
    if captions is None:
        return check
    layout = check.attempt(lambda: find_layout(features, len(captions), ids, None, str(where)))
    if layout is None:
        return check
    check.found.insert(0, _numbers(layout, len(features), len(captions)))
    if layout.image_ids is not None:
        check.image_ids = layout.image_ids
        check.problems += validation.id_problems(layout.image_ids, str(ids_file))
    _check_columns(check, layout, features)
    _check_caption_relations(check, [caption.strip() for caption in captions])
    return check


def _numbers(layout: Layout, rows: int, captions: int) -> str:
    counts, images = np.unique(np.bincount(layout.caption_image), return_counts=True)
    share = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    repeated = "" if layout.rows is None else f", stored once a caption ({rows} rows)"
    if repeated and len(counts) > 1:  # worth a look: a photo that comes twice is taken for one image
        shown = ", ".join(f"{n} of {k} rows" for n, k in zip(images[:5], counts[:5], strict=True))
        repeated += f", equal rows that follow each other taken for one: {shown}{', ...' if len(counts) > 5 else ''}"
    return f"{layout.num_images} images{repeated}, {captions} captions ({share} an image)"


def compare_splits(root: Path, ids: dict[str, list[str]], sizes: dict[str, int]) -> list[str]:
    """Problems between splits: other feature sizes, and images that are in two of them."""
    problems = []
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{split} {size}" for split, size in sizes.items())
        problems.append(f"{root}: features of different sizes: {shown}")
    names = list(ids)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            common = sorted(set(ids[first]) & set(ids[second]))
            if common and {first, second} != {"test", "testall"}:  # COCO: test is a part of testall
                problems.append(
                    f"{root}: {first} and {second} share {len(common)} image ids, the first is {common[0]!r}"
                )
    return problems


def _check_columns(check: SplitCheck, layout: Layout, features: Array) -> None:
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
        found = list(validation.length_problems(lengths, *shape, f"{where}_lengths.npy"))
        check.problems += found
        lengths = None if found else lengths
    boxes_file = first_file(where, BOX_FILES)
    raw = column(boxes_file, "boxes")
    boxes = None if raw is None else check.attempt(partial(as_fractions, raw, where, layout, rows))
    if boxes is not None:
        found = list(validation.box_problems(boxes, *shape, str(boxes_file), lengths))
        check.problems += found
        check.warnings += [] if found else _flat_boxes(boxes, lengths, str(boxes_file))
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
    if scores is not None:
        check.problems += validation.score_problems(scores, relations, f"{where}_relation_scores.npy")
    if optional:
        check.found.append("with " + ", ".join(optional))


def _flat_boxes(boxes: Array, lengths: Array | None, where: str) -> list[str]:
    """Whether most boxes have no area, as in a file that was made and never filled."""
    flat = (boxes[..., 0] == boxes[..., 2]) | (boxes[..., 1] == boxes[..., 3])
    real = np.arange(flat.shape[1]) < (flat.shape[1:] if lengths is None else lengths[:, None])
    count, total = int((flat & real).sum()), int(np.broadcast_to(real, flat.shape).sum())
    return [f"{where}: {count} of {total} boxes have no area"] if 2 * count > total else []


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
