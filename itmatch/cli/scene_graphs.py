"""``itmatch data scene-graphs``: writes the relations of stored scene graphs beside precomputed features."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from itmatch.cli.parser import CommandParser
from itmatch.data.batching import validation
from itmatch.data.scene_graphs.benchmark import read_scene_graph_benchmark
from itmatch.data.scene_graphs.genome import read_visual_genome
from itmatch.data.scene_graphs.graphs import SceneGraphs
from itmatch.data.sources.precomp import PrecompFolder
from itmatch.data.split import ImageTextSplit
from itmatch.formats.arrays import Array
from itmatch.formats.files import read_json, user_path, written_together

_DESCRIPTION = """Write SPLIT_relations.npy, SPLIT_relation_scores.npy and predicates.json into FOLDER, a folder of
precomputed features with SPLIT_ids.txt. Scene graphs come from Scene-Graph-Benchmark or from Visual Genome. Their
regions are matched to SPLIT_boxes.npy by overlap, unless --same-regions says that the features are of these regions."""


def scene_graphs_command(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    datasets = {split: _features(options.folder, split) for split in options.split}
    wanted = {name for dataset in datasets.values() for name in dataset.image_ids}
    graphs = _read(options, wanted, max(dataset.features.num_regions or 0 for dataset in datasets.values()))
    report = []
    with written_together():  # all the splits, since they share the names of the predicates
        for split, dataset in datasets.items():
            chosen = graphs.select(dataset.image_ids, missing=options.missing)
            before, without = chosen.num_relations, int((chosen.lengths == 0).sum())
            if options.same_regions:
                _check_regions(chosen, dataset)
            else:
                most = options.max_relations
                boxes = _boxes(dataset)
                chosen = chosen.matched_to(boxes, dataset.lengths, min_iou=options.min_iou, max_relations=most)
            chosen.save(options.folder, split, overwrite=options.overwrite)
            report.append(
                f"{split}: {chosen.num_relations} relations of {len(chosen)} images ({before} before matching, "
                f"{without} images without regions), {len(chosen.predicate_names)} predicates"
            )
    print(*report, sep="\n")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="itmatch data scene-graphs", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="FOLDER", type=user_path)
    parser.add_argument("split", metavar="SPLIT", nargs="+")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--benchmark",
        nargs=2,
        metavar=("PREDICTION", "INFO"),
        help="custom_prediction.json and custom_data_info.json of Scene-Graph-Benchmark; needs --sizes",
    )
    source.add_argument(
        "--visual-genome",
        nargs=2,
        metavar=("RELATIONSHIPS", "IMAGE_DATA"),
        help="relationships.json and image_data.json of Visual Genome",
    )
    add = parser.add_argument
    add("--sizes", metavar="FILE", help='json {"image id": [width, height]} of the images as they are on disk')
    add("--resized", nargs=2, type=int, default=(600, 1000), metavar=("SHORTER", "LONGER"),
        help="sides that --benchmark resized images to (600 1000); 0 0 = --sizes are of resized images")  # fmt: skip
    add("--ids", metavar="KIND", help="what SPLIT_ids.txt holds: name (default), stem or number of a file for "
        "--benchmark; image_id (default), coco_id or flickr_id for --visual-genome")  # fmt: skip
    add("--same-regions", action="store_true", help="the features are of the scene graphs' own regions, in their order")
    add("--min-iou", type=float, default=0.5, metavar="X", help="smallest overlap of two regions taken for one (0.5)")
    add("--max-relations", type=int, metavar="K", help="keep the K most confident relations of an image")
    add("--min-confidence", type=float, default=0.0, metavar="X", help="leave out relations less confident (0)")
    add("--predicates", metavar="FILE", help="json list of names; the default is FOLDER/predicates.json, where it is")
    add("--unknown", choices=("error", "drop"), default="error", help="relations with other predicates (error)")
    add("--missing", choices=("error", "empty"), default="error", help="images without a scene graph (error)")
    add("--skip-broken", action="store_true", help="leave broken relations of Visual Genome out")
    add("--overwrite", action="store_true", help="replace relations that are there")
    return parser


def _read(options: argparse.Namespace, wanted: set[str], num_regions: int) -> SceneGraphs:
    there = options.folder / "predicates.json"
    file = options.predicates or (there if there.exists() else None)
    predicates = None if file is None else read_json(file, list)
    if predicates is not None and not all(isinstance(name, str) for name in predicates):
        raise ValueError(f"{file}: expected a list of names")
    regions = num_regions if options.same_regions and num_regions else None
    edges = options.max_relations if options.same_regions else None  # else the most confident that can be matched
    if options.visual_genome:
        if options.sizes or options.min_confidence:
            raise ValueError(
                "--sizes and --min-confidence go with --benchmark: Visual Genome has sizes, no confidences"
            )
        return read_visual_genome(
            *options.visual_genome,
            ids=options.ids or "image_id",
            image_ids=wanted,
            skip_broken=options.skip_broken,
            max_regions=regions,
            max_relations=edges,
            predicates=predicates,
            unknown=options.unknown,
        )
    if options.sizes is None:
        raise ValueError("--benchmark needs --sizes: its boxes are in pixels, and its files have no sizes of images")
    prediction, info = options.benchmark
    return read_scene_graph_benchmark(
        prediction,
        info,
        options.sizes,
        resized=tuple(options.resized) if any(options.resized) else None,
        ids=options.ids or "name",
        image_ids=wanted,
        max_regions=regions,
        max_relations=edges,
        min_confidence=options.min_confidence,
        predicates=predicates,
        unknown=options.unknown,
    )


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
