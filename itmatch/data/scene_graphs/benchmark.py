"""Reading the scene graphs that Scene-Graph-Benchmark and Visual Genome store."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from itmatch.data.batching.validation import BOX_TOLERANCE, id_problems
from itmatch.data.scene_graphs.graphs import SceneGraphs
from itmatch.data.scene_graphs.packing import MOST_PIXELS, ImageGraph, Limits, Unknown, limited, pack_columns
from itmatch.formats.arrays import Array
from itmatch.formats.files import read_json
from itmatch.formats.messages import shown, shown_keys
from itmatch.ops.checks import check_choice

FileId = Literal["name", "stem", "number"]
Sizes = Mapping[str, Sequence[float]]
BACKGROUND = "__background__"
_ENTRIES = ("bbox", "bbox_labels", "bbox_scores", "rel_pairs", "rel_labels", "rel_scores")
_ROUNDING = 1e-6  # of confidences that come from a softmax in float32


def read_scene_graph_benchmark(
    prediction: str | Path,
    info: str | Path,
    sizes: Sizes | str | Path,
    *,
    resized: tuple[int, int] | None = (600, 1000),
    ids: FileId = "name",
    image_ids: Collection[str] | None = None,
    max_regions: int | None = None,
    max_relations: int | None = None,
    min_confidence: float = 0.0,
    predicates: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    unknown: Unknown = "error",
) -> SceneGraphs:
    """Read what Scene-Graph-Benchmark predicts for images of one's own (``TEST.CUSTUM_EVAL``).

    Regions come in the order of the file, the most confident first; a relation has the probability of its predicate as
    confidence. The names have no ``__background__``, so number 0 of the result is number 1 of the file.

    Args:
        prediction: ``custom_prediction.json``: for each image, by its place, ``bbox`` (x1 y1 x2 y2 in pixels of the
            resized image), ``bbox_labels``, ``bbox_scores``, ``rel_pairs``, ``rel_labels`` and ``rel_scores``.
            ``rel_all_scores`` is not read, and may be missing.
        info: ``custom_data_info.json``: ``idx_to_files``, ``ind_to_classes``, ``ind_to_predicates``.
        sizes: width and height of each image as it is on disk, by the image's id; or a json file of such an object.
        resized: shorter side that images were resized to, and the most that the longer one may have (600 and 1000 in
            the published configurations); None = ``sizes`` are those of the resized images.
        ids: what an image is called: the "name" of its file, its "stem" (without the ending), or the last "number" in
            it (``391895`` for ``COCO_val2014_000000391895.jpg``).
        image_ids: read only these images; None = all.
        max_regions: see :class:`itmatch.data.scene_graphs.packing.Limits`; so are the arguments below.
        max_relations: relations of an image, the most confident.
        min_confidence: smallest confidence of a relation.
        predicates: names of predicates, in their order; None = those of the file.
        labels: likewise of object classes.
        unknown: what to do with other names: "error" or "drop".

    Raises:
        ValueError: a file is broken; the message names file, image and key.

    Source: github.com/KaihuaTang/Scene-Graph-Benchmark.pytorch, which writes the two files.
    """
    limits = Limits(max_regions, max_relations, min_confidence, predicates, labels, unknown)
    names = read_json(info)
    files, classes, kinds = (
        _names(names, key, info) for key in ("idx_to_files", "ind_to_classes", "ind_to_predicates")
    )
    check_choice("ids", ids, "name", "stem", "number")
    called = [_file_id(file, ids, info) for file in files]
    for problem in id_problems(called, f"{info}: idx_to_files", listed=True):
        raise ValueError(problem)
    content = read_json(prediction)
    if len(content) != len(files):  # its writer numbers what it has, so that a gap would shift all names after it
        raise ValueError(f"{prediction}: {len(content)} images, expected the {len(files)} of {info}")
    given = _sizes(sizes)
    graphs = []
    for place, image_id in enumerate(called):
        if image_ids is not None and image_id not in image_ids:
            continue
        where = f"{prediction}: image {place} ({shown(image_id)})"
        if str(place) not in content:
            raise ValueError(f"{where}: not there")
        size = _size_of(image_id, given, sizes if isinstance(sizes, (str, Path)) else "sizes")
        size = size if resized is None else _resized(*size, *resized)
        graphs.append(_predicted(content[str(place)], where, image_id, size, len(classes), len(kinds)))
    graphs = [_without_background(graph, classes, kinds) for graph in graphs]
    classes, kinds = ([word for word in words if word != BACKGROUND] for words in (classes, kinds))
    kept, label_names, predicate_names = limited(graphs, classes, kinds, limits, str(prediction))
    columns = pack_columns(kept, scored=True)
    return SceneGraphs(**columns, label_names=label_names, predicate_names=predicate_names, name=str(prediction))


def _predicted(
    entry: Any, where: str, image_id: str, size: tuple[float, float], classes: int, kinds: int
) -> ImageGraph:
    """One image of ``custom_prediction.json``; labels and predicates are still numbered as there."""
    missing = [key for key in _ENTRIES if not isinstance(entry, dict) or not isinstance(entry.get(key), list)]
    if missing:
        raise ValueError(f"{where}: no list {missing[0]!r}")
    regions, edges = len(entry["bbox"]), len(entry["rel_pairs"])
    boxes = _numbers(entry, "bbox", (regions, 4), where)
    labels = _integers(entry, "bbox_labels", (regions,), classes, where)
    _numbers(entry, "bbox_scores", (regions,), where)
    pairs = _integers(entry, "rel_pairs", (edges, 2), regions, where)
    predicates = _integers(entry, "rel_labels", (edges,), kinds, where)
    scores = _numbers(entry, "rel_scores", (edges,), where)
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1 + _ROUNDING)))
    if len(bad):
        raise ValueError(f"{where}: rel_scores[{bad[0]}] is {scores[bad[0]]:g}, expected 0..1")
    relations = np.stack([pairs[:, 0], predicates, pairs[:, 1]], 1)
    return ImageGraph(
        image_id, as_fractions(boxes, size, where, "bbox"), labels, relations, scores.clip(0, 1).astype(np.float32)
    )


def _without_background(graph: ImageGraph, classes: list[str], kinds: list[str]) -> ImageGraph:
    relations = graph.relations.copy()
    relations[:, 1] = _renumbered(kinds)[relations[:, 1]]
    labels = _renumbered(classes)[graph.labels]
    moved = ImageGraph(graph.image_id, graph.boxes, labels, relations, graph.scores)
    return moved.kept(relations[:, 1] != -1)


def _renumbered(words: list[str]) -> Array:
    """The number of each name when the background is left out, and -1 for the background."""
    real = np.array([word != BACKGROUND for word in words], bool)
    return np.where(real, real.cumsum() - 1, -1)


def as_fractions(boxes: Array, size: tuple[float, float], where: str, key: str) -> Array:
    """Boxes in pixels as fractions; those that leave the image by more than rounding does are an error."""
    result: Array = (boxes / np.array([*size, *size])).astype(np.float32)
    good = ((result >= -BOX_TOLERANCE) & (result <= 1 + BOX_TOLERANCE)).all(1)
    good &= (result[:, 0] <= result[:, 2]) & (result[:, 1] <= result[:, 3])
    bad = np.flatnonzero(~good)
    if len(bad):
        raise ValueError(
            f"{where}: {key}[{bad[0]}] is {[round(float(x), 1) for x in boxes[bad[0]]]}, expected x1 <= x2 and y1 <= "
            f"y2 inside {size[0]:g} x {size[1]:g} pixels (do the sizes belong to these images?)"
        )
    return result.clip(0, 1)


def _resized(width: float, height: float, shorter: int, longer: int) -> tuple[float, float]:
    """The size that maskrcnn-benchmark resizes an image to: whole pixels, the longer side rounded down."""
    low, high = min(width, height), max(width, height)
    side = shorter if high / low * shorter <= longer else round(longer * low / high)
    if low == side:
        return width, height
    return (side, int(side * height / width)) if width < height else (int(side * width / height), side)


def _sizes(sizes: Sizes | str | Path) -> Mapping[str, Any]:
    return read_json(sizes) if isinstance(sizes, (str, Path)) else sizes


def _size_of(image_id: str, sizes: Mapping[str, Any], where: str | Path) -> tuple[float, float]:
    found = sizes.get(image_id)
    if found is None:
        there = ", ".join(map(shown, list(sizes)[:2])) or "none"
        raise ValueError(f"{where}: no size of image {shown(image_id)}; there are {there}")
    pair = list(found) if isinstance(found, Sequence) else []
    if len(pair) != 2 or not all(type(x) in (int, float) and 0 < x < MOST_PIXELS for x in pair):
        raise ValueError(
            f"{where}: image {shown(image_id)} has size {shown(found)}, expected a positive width and height"
        )
    return float(pair[0]), float(pair[1])


def _file_id(file: str, ids: FileId, where: str | Path) -> str:
    path = PurePath(file.replace("\\", "/"))
    if ids != "number":
        return path.name if ids == "name" else path.stem
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise ValueError(f"{where}: idx_to_files has {shown(file)}, in whose name is no number")
    return str(int(digits[-1]))


def _names(content: dict[str, Any], key: str, where: str | Path) -> list[str]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"{where}: no list of strings {key!r}; keys there: {shown_keys(content)}")
    return found


def _numbers(entry: dict[str, Any], key: str, shape: tuple[int, ...], where: str) -> Array:
    try:
        values = np.array(entry[key]).reshape(shape if len(entry[key]) in (0, shape[0]) else -1)
        values = values.astype(np.float64) if values.dtype.kind in "iuf" else np.zeros(0)  # no strings of digits
    except ValueError:
        values = np.zeros(0)
    if values.shape != shape or (shape[0] and len(entry[key]) != shape[0]):
        raise ValueError(f"{where}: {key!r} has {len(entry[key])} entries, expected numbers of shape {shape}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{where}: {key}[{bad[0][0]}] holds a NaN or an infinity")
    return values


def _integers(entry: dict[str, Any], key: str, shape: tuple[int, ...], most: int, where: str) -> Array:
    values = _numbers(entry, key, shape, where)
    bad = np.argwhere((values < 0) | (values >= most) | (values != np.floor(values)))
    if len(bad):
        place = bad[0][0]
        raise ValueError(
            f"{where}: {key}[{place}] is {shown(entry[key][place])}, expected whole numbers in 0..{most - 1}"
        )
    return values.astype(np.int64)
