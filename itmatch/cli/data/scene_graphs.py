"""``itmatch data scene-graphs``: writes the relations of stored scene graphs beside precomputed features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from itmatch.cli.parser import check_one_of
from itmatch.data.batching import validation
from itmatch.data.scene_graphs.benchmark import read_scene_graph_benchmark
from itmatch.data.scene_graphs.genome import read_visual_genome
from itmatch.data.scene_graphs.graphs import SceneGraphs
from itmatch.data.sources.precomp import PrecompFolder
from itmatch.data.split import ImageTextSplit
from itmatch.formats.arrays import Array
from itmatch.formats.files import read_json, written_together
from itmatch.formats.messages import counted


def scene_graphs(
    folder: Path,
    splits: list[str],
    *,
    benchmark: tuple[str, str] | None = None,
    visual_genome: tuple[str, str] | None = None,
    sizes: str | None = None,
    resized: tuple[int, int] = (600, 1000),
    ids: str | None = None,
    same_regions: bool = False,
    min_iou: float = 0.5,
    max_relations: int | None = None,
    min_confidence: float = 0.0,
    predicates: str | None = None,
    unknown: Literal["error", "drop"] = "error",
    missing: Literal["error", "empty"] = "error",
    skip_broken: bool = False,
    overwrite: bool = False,
) -> None:
    """Write SPLIT_relations.npy, SPLIT_relation_scores.npy and predicates.json into FOLDER.

    Scene graphs come from Scene-Graph-Benchmark or from Visual Genome. Their regions are matched to SPLIT_boxes.npy by
    overlap, unless --same-regions says that the features are of these regions.

    Args:
        folder: of precomputed features, with SPLIT_ids.txt.
        splits: such as train, dev and test.
        benchmark: custom_prediction.json and custom_data_info.json of Scene-Graph-Benchmark; needs --sizes.
        visual_genome: relationships.json and image_data.json of Visual Genome.
        sizes: file of json {"image id": [width, height]} of the images as they are on disk.
        resized: shorter and longer side that --benchmark resized images to; 0 0 = --sizes are of resized images.
        ids: what SPLIT_ids.txt holds: name (default), stem or number of a file for --benchmark; image_id (default),
            coco_id or flickr_id for --visual-genome.
        same_regions: the features are of the scene graphs' own regions, in their order.
        min_iou: smallest overlap of two regions taken for one.
        max_relations: keep so many relations of an image, the most confident.
        min_confidence: leave out relations less confident.
        predicates: json list of names; the default is FOLDER/predicates.json, where it is.
        unknown: relations with other predicates.
        missing: images without a scene graph.
        skip_broken: leave broken relations of Visual Genome out.
        overwrite: replace relations that are there.
    """
    check_one_of(benchmark=benchmark, visual_genome=visual_genome)
    options: dict[str, Any] = {} if ids is None else {"ids": ids}
    read: Callable[..., SceneGraphs]
    if visual_genome is not None:
        if sizes or min_confidence:
            raise ValueError(
                "--sizes and --min-confidence go with --benchmark: Visual Genome has sizes, no confidences"
            )
        read = partial(read_visual_genome, *visual_genome, skip_broken=skip_broken, **options)
    elif benchmark is not None:
        if sizes is None:
            raise ValueError(
                "--benchmark needs --sizes: its boxes are in pixels, and its files have no sizes of images"
            )
        options |= {"resized": resized if any(resized) else None, "min_confidence": min_confidence}
        read = partial(read_scene_graph_benchmark, *benchmark, sizes, **options)
    datasets = {split: _features(folder, split) for split in splits}
    regions = max(dataset.features.num_regions or 0 for dataset in datasets.values())
    graphs = read(
        image_ids={name for dataset in datasets.values() for name in dataset.image_ids},
        max_regions=regions if same_regions and regions else None,
        max_relations=max_relations if same_regions else None,  # else the most confident that can be matched
        predicates=_predicates(folder, predicates),
        unknown=unknown,
    )
    report = []
    with written_together():  # all the splits, since they share the names of the predicates
        for split, dataset in datasets.items():
            chosen = graphs.select(dataset.image_ids, missing=missing)
            before, without = chosen.num_relations, int((chosen.lengths == 0).sum())
            if same_regions:
                _check_regions(chosen, dataset)
            else:
                most = max_relations
                chosen = chosen.matched_to(_boxes(dataset), dataset.lengths, min_iou=min_iou, max_relations=most)
            chosen.save(folder, split, overwrite=overwrite)
            report.append(
                f"{split}: {counted(chosen.num_relations, 'relations')} of {counted(len(chosen), 'images')} "
                f"({before} before matching, {counted(without, 'images')} without regions), "
                f"{counted(len(chosen.predicate_names), 'predicates')}"
            )
    print(*report, sep="\n")


def _predicates(folder: Path, given: str | None) -> list[str] | None:
    there = folder / "predicates.json"
    file = given or (there if there.exists() else None)
    names: list[str] | None = None if file is None else read_json(file, list)
    if names is not None and not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file}: expected a list of names")
    return names


def _features(folder: Path, split: str) -> ImageTextSplit:
    if (folder / f"{split}_ims.npy").exists() and not (folder / f"{split}_ids.txt").exists():
        raise FileNotFoundError(f"{folder / split}_ids.txt: no such file; it tells whose scene graph is whose")
    return PrecompFolder(folder, train=split, labels=None, relations=None).split("train")


def _boxes(dataset: ImageTextSplit) -> Array:
    if dataset.boxes is None:
        raise FileNotFoundError(
            f"{dataset.name}_boxes.npy: no such file; without boxes the regions of the scene graphs cannot be matched "
            "(--same-regions: the features are of these very regions)"
        )
    return dataset.boxes


def _check_regions(graphs: SceneGraphs, dataset: ImageTextSplit) -> None:
    images, regions = dataset.num_images, dataset.features.num_regions
    for problem in validation.relation_problems(graphs.relations, images, regions, graphs.name, dataset.lengths):
        raise ValueError(f"{problem} (--same-regions)")
