"""Reading the relations of Visual Genome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itmatch.data.scene_graphs.graphs import SceneGraphs
from itmatch.data.scene_graphs.packing import (
    MOST_PIXELS,
    ImageGraph,
    Limits,
    Unknown,
    limited,
    normal_name,
    pack_columns,
)
from itmatch.formats.arrays import Array
from itmatch.formats.files import read_json
from itmatch.formats.messages import shown
from itmatch.ops.checks import check_choice

GenomeId = Literal["image_id", "coco_id", "flickr_id"]


class _Numbers(dict[str, int]):
    """Numbers for names, given out as names are met."""

    def of(self, name: str) -> int:
        return self.setdefault(normal_name(name), len(self))


def read_visual_genome(
    relationships: str | Path,
    image_data: str | Path,
    *,
    ids: GenomeId = "image_id",
    image_ids: Collection[str] | None = None,
    skip_broken: bool = False,
    max_regions: int | None = None,
    max_relations: int | None = None,
    predicates: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    unknown: Unknown = "error",
) -> SceneGraphs:
    """Read the relations that people marked in Visual Genome; they have no confidences.

    The regions of an image are its objects (by ``object_id``), in the order in which relations first name them. Names
    are in small letters; without ``predicates`` or ``labels`` the most frequent come first, so that
    ``predicate_names[:50]`` are the 50 most frequent. Boxes that lie in part outside their image are cut.

    Args:
        relationships: ``relationships.json``: a list of ``{"image_id", "relationships": [{"predicate", "subject",
            "object"}]}``, where subject and object have ``object_id``, ``x``, ``y``, ``w``, ``h`` in pixels, and a
            ``name`` or a list ``names``.
        image_data: ``image_data.json``: a list of ``{"image_id", "width", "height", "coco_id", "flickr_id"}``.
        ids: what an image is called. Images without a "coco_id", or without a "flickr_id", are left out.
        image_ids: read only these images; None = all.
        skip_broken: leave relations out that have no predicate, or an object without a name or without a part inside
            the image. The published files have a few.
        max_regions: regions of an image, the first ones; relations with others go too.
        max_relations: relations of an image, the first ones.
        predicates: names of predicates, in their order; None = all that come.
        labels: likewise of object classes.
        unknown: what to do with other names: "error", or "drop" = leave the relation out, and label the region -1.

    Raises:
        ValueError: a file is broken; the message names file, image and relation.

    Source: Krishna et al., "Visual Genome: Connecting Language and Vision Using Crowdsourced Dense Image Annotations",
        IJCV 2017, and the description of its files.
    """
    limits = Limits(max_regions, max_relations, 0.0, predicates, labels, unknown)
    known = _images(image_data, check_choice("ids", ids, "image_id", "coco_id", "flickr_id"))
    kinds, classes = _Numbers(), _Numbers()
    graphs = []
    for place, entry in enumerate(read_json(relationships, list)):
        number = _image_number(entry, f"{relationships}: [{place}]")
        where = f"{relationships}: image {number}"
        if not isinstance(entry.get("relationships"), list):
            raise ValueError(f"{where}: no list 'relationships'")
        if number not in known:
            raise ValueError(f"{where}: not in {image_data}")
        image_id, size = known[number]
        if image_id is not None and (image_ids is None or image_id in image_ids):
            graphs.append(_graph(entry["relationships"], where, image_id, size, kinds, classes, skip_broken))
    graphs, predicate_words, label_words = _by_frequency(graphs, kinds, classes)
    kept, label_names, predicate_names = limited(graphs, label_words, predicate_words, limits, str(relationships))
    columns = pack_columns(kept, scored=False)
    return SceneGraphs(**columns, label_names=label_names, predicate_names=predicate_names, name=str(relationships))


def _images(path: str | Path, ids: GenomeId) -> dict[int, tuple[str | None, tuple[float, float]]]:
    """Id and size of each image, by its number in Visual Genome."""
    found = {}
    for place, entry in enumerate(read_json(path, list)):
        number = _image_number(entry, f"{path}: [{place}]")
        width, height = entry.get("width"), entry.get("height")
        if not all(_is_pixels(x) and x > 0 for x in (width, height)):
            raise ValueError(
                f"{path}: image {number}: width {shown(width)} and height {shown(height)}, expected positive numbers"
            )
        if number in found:
            raise ValueError(f"{path}: [{place}]: image {number} is there already")
        other = number if ids == "image_id" else entry.get(ids)
        found[number] = (None if other is None else str(other), (float(width), float(height)))
    return found


def _image_number(entry: Any, where: str) -> int:
    number = entry.get("image_id", entry.get("id")) if isinstance(entry, dict) else None  # "id" in version 1.0
    if type(number) is not int or abs(number) >= 2**63:
        raise ValueError(f"{where}: no 'image_id'")
    return number


def _graph(
    entries: list[Any],
    where: str,
    image_id: str,
    size: tuple[float, float],
    kinds: _Numbers,
    classes: _Numbers,
    skip_broken: bool,  # noqa: FBT001
) -> ImageGraph:
    place: dict[Any, int] = {}
    boxes: list[list[float]] = []
    labels: list[int] = []
    relations: list[tuple[int, int, int]] = []
    for number, entry in enumerate(entries):
        try:
            predicate, ends = _relation(entry, f"{where}: relationships[{number}]", size)
        except _BrokenError:
            if not skip_broken:
                raise
            continue
        for key, name, box in ends:
            if key not in place:
                place[key] = len(place)
                boxes.append(box)
                labels.append(classes.of(name))
        relations.append((place[ends[0][0]], kinds.of(predicate), place[ends[1][0]]))
    return ImageGraph(
        image_id,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(relations, np.int64).reshape(-1, 3),
        None,
    )


class _BrokenError(ValueError):
    """A relation that states nothing, as a few of the published ones do."""


def _relation(entry: Any, where: str, size: tuple[float, float]) -> tuple[str, list[tuple[Any, str, list[float]]]]:
    """Predicate, and for subject and object: object_id, name, box as fractions."""
    predicate = entry.get("predicate") if isinstance(entry, dict) else None
    if not isinstance(predicate, str) or not predicate.strip():
        raise _BrokenError(f"{where}: no 'predicate'")
    ends = []
    for role in ("subject", "object"):
        found = entry.get(role)
        if not isinstance(found, dict):
            raise ValueError(f"{where}: no {role!r}")
        missing = [key for key in ("object_id", "x", "y", "w", "h") if type(found.get(key)) not in (int, float)]
        if missing:
            raise ValueError(f"{where}: {role} has no number {missing[0]!r}")
        names = found["name"] if "name" in found else found.get("names")
        name = names[0] if isinstance(names, list) and names else names
        if not isinstance(name, str) or not name.strip():
            raise _BrokenError(f"{where}: {role} has neither a 'name' nor 'names'")
        ends.append((found["object_id"], name, _box(found, f"{where}: {role}", size)))
    return predicate, ends


def _box(found: dict[str, Any], where: str, size: tuple[float, float]) -> list[float]:
    width, height = size
    box: list[float] = []
    if all(_is_pixels(found[key]) for key in "xywh"):
        raw = [found["x"] / width, found["y"] / height]
        raw += [(found["x"] + found["w"]) / width, (found["y"] + found["h"]) / height]
        box = [min(max(value, 0.0), 1.0) for value in raw]
    if not box or not (box[0] < box[2] and box[1] < box[3]):
        place = ", ".join(f"{key} {shown(found[key])}" for key in "xywh")
        raise _BrokenError(f"{where} has {place}: no part of it is inside the image of {width:g} x {height:g} pixels")
    return box


def _is_pixels(value: Any) -> bool:
    """Whether this is a number of pixels; json may hold NaN, Infinity and integers of any length."""
    return isinstance(value, (int, float)) and abs(value) < MOST_PIXELS


def _by_frequency(
    graphs: list[ImageGraph], kinds: _Numbers, classes: _Numbers
) -> tuple[list[ImageGraph], list[str], list[str]]:
    """The graphs with predicates and labels numbered by how often they come, and the names of these numbers."""
    kind_names, kind_map = _ranked(kinds, [graph.relations[:, 1] for graph in graphs])
    class_names, class_map = _ranked(classes, [graph.labels for graph in graphs])
    result = []
    for graph in graphs:
        relations = graph.relations.copy()
        relations[:, 1] = kind_map[relations[:, 1]]
        result.append(ImageGraph(graph.image_id, graph.boxes, class_map[graph.labels], relations, None))
    return result, kind_names, class_names


def _ranked(numbers: _Numbers, used: list[Array]) -> tuple[list[str], Array]:
    counts = Counter(value for values in used for value in values.tolist())
    names = sorted(numbers, key=lambda name: (-counts[numbers[name]], name))
    places = np.zeros(len(names), np.int64)
    places[[numbers[name] for name in names]] = np.arange(len(names))
    return names, places
