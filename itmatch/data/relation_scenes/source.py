"""A synthetic dataset in which captions differ only in who does what to whom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np

from itmatch.data.items import Names
from itmatch.data.relation_scenes import grammar
from itmatch.data.relation_scenes.captions import describe
from itmatch.data.relation_scenes.drawing import SceneDrawings
from itmatch.data.relation_scenes.noise import corrupt_edges, place_edges, shuffled
from itmatch.data.relation_scenes.sampling import MOST_OBJECTS, TWIN_KINDS, Scenes, TwinKind, sample_scenes
from itmatch.data.sources.base import DataSource, Stage
from itmatch.data.split import ImageTextSplit
from itmatch.formats.arrays import Array

_PRESETS: dict[str, dict[str, int | float]] = {
    "easy": {
        "min_objects": 4, "max_objects": 5, "noise": 0.1, "two_relations": 0.0, "max_relations": 2,
        "wrong_edges": 0, "edge_dropout": 0.0, "edge_rewiring": 0.0, "confidence_spread": 0.2,
    },
    "medium": {
        "min_objects": 4, "max_objects": 10, "noise": 0.5, "two_relations": 0.5, "max_relations": 3,
        "wrong_edges": 2, "edge_dropout": 0.0, "edge_rewiring": 0.0, "confidence_spread": 0.4,
    },
    "hard": {
        "min_objects": 8, "max_objects": 12, "noise": 1.0, "two_relations": 0.5, "max_relations": 5,
        "wrong_edges": 4, "edge_dropout": 0.1, "edge_rewiring": 0.1, "confidence_spread": 0.6,
    },
}  # fmt: skip
_CODES, _SCENES, _CAPTIONS, _NOISE, _REGION_ORDER, _CORRUPTION, _WRONG_EDGES, _EDGE_ORDER = range(8)
_STAGES = ("train", "val", "test")


class RelationScenes(DataSource):
    """Scenes of a few objects in twins: the same objects, one relation reversed. Nothing is downloaded.

    A scene has objects of a category, a colour and a size, each with a box. Captions tell two sorts of relations:

    - *spatial* (left of, right of, above, below, overlapping): they follow from the boxes; the scene graph lacks them;
    - *semantic* (holding, riding, ...): they are in the scene graph and follow from nothing else.

    So the spatial and the semantic part of a model are tested apart. A region's feature is a fixed random code of
    its category plus one of its colour plus one of its size plus noise; **position never enters it**.

    Images ``2 k`` and ``2 k + 1`` are twins. Semantic twins differ in the direction of one edge. Spatial twins differ
    in that two objects of the same size have traded boxes, which reverses left and right ("horizontal"), above and
    below ("vertical"), or which of the two overlaps a third object ("overlap"). All else is equal, except for fresh
    feature noise and the order of regions and edges, and neither twin is the original. A caption that states the
    reversed relation (all do, unless ``shared_captions``) names the other image as ``caption_twin``; without the
    relation it prefers the right one half of the time.

    Settings left at None come from ``difficulty``. Feature noise, graph corruption and captions have random streams
    of their own: sources that differ in these settings alone show the same scenes, and a higher ``edge_dropout`` drops
    the edges that a lower one drops, and more. A split depends on the arguments and numpy's generators alone.

    *What can be reached.* With ``edge_dropout``, ``edge_rewiring`` and ``shared_captions`` at 0, twin accuracy and
    recall can come to about 100 %: another image seldom shows what a caption says. A corrupted edge is lost in both
    twins, so with c = dropout + (1 - dropout) * rewiring semantic twin accuracy ends at 100 (1 - c / 2) %. A model
    that knows of boxes only how much they overlap (IoU) can tell the "overlap" twins, but not those of the other two
    spatial kinds.

    Args:
        difficulty: "easy" (4-5 objects, clean graph, one relation a caption), "medium" (4-10 objects, two wrong
            edges of lower confidence) or "hard" (8-12 objects, more noise, a corrupted graph).
        num_train: training images, even.
        num_val: validation images, even.
        num_test: test images, even.
        captions_per_image: captions of an image.
        shared_captions: how many of them state only what holds in both twins (they have no ``caption_twin``).
        twins: kinds of twins. Half of the pairs are semantic where "semantic" is among them; the spatial kinds share
            the rest equally. None = all kinds.
        feature_dim: numbers a region.
        min_objects: fewest objects of a scene, at least 4.
        max_objects: most objects of a scene, at most 16; images are padded to it, and ``lengths`` tells.
        noise: standard deviation of the feature noise; that of each code is 1.
        two_relations: share of the captions that state a second relation.
        max_relations: most true semantic relations of a scene; there are 1 to this many.
        wrong_edges: edges of the graph, a scene, that state nothing true (fewer where few pairs of objects are left).
        edge_dropout: share of the true edges that are missing from the graph.
        edge_rewiring: share of the others that join a wrong pair of objects instead, at the confidence of a wrong edge.
        confidence_spread: true edges have confidences in [1 - spread, 1], wrong ones in [0, spread], both uniform.
            Up to 0.5 a threshold of 0.5 parts them.
        seed: of everything; the ids of the images are the same for every seed.
        text_graphs: captions come with their relations, as ``caption_relations``: what :func:`parse_caption` of
            ``itmatch.data.relation_scenes.grammar`` finds, at the words that state it. All else stays the same.

    Example:
        >>> source = RelationScenes("easy", num_val=20)
        >>> val = source.split("val")
        >>> val
        ImageTextSplit(RelationScenes val: 20 images, 100 captions)
        >>> int(val.caption_image[0]), int(val.caption_twin[0]), val.image(0).features.shape[1]
        (0, 1, 64)
        >>> all(word in source.words() for caption in val.captions for word in caption.split())
        True
    """

    categories: ClassVar[tuple[str, ...]] = grammar.CATEGORIES
    label_names: ClassVar[tuple[str, ...]] = grammar.CATEGORIES  # what `labels` index
    colours: ClassVar[tuple[str, ...]] = grammar.COLOURS
    sizes: ClassVar[tuple[str, ...]] = grammar.SIZES
    predicates: ClassVar[tuple[str, ...]] = grammar.PREDICATES  # what the middle column of `relations` indexes
    spatial_relations: ClassVar[tuple[str, ...]] = grammar.SPATIAL_RELATIONS

    def __init__(
        self,
        difficulty: Literal["easy", "medium", "hard"] = "medium",
        num_train: int = 2000,
        num_val: int = 200,
        num_test: int = 400,
        captions_per_image: int = 5,
        shared_captions: int = 0,
        twins: list[TwinKind] | None = None,
        feature_dim: int = 64,
        min_objects: int | None = None,
        max_objects: int | None = None,
        noise: float | None = None,
        two_relations: float | None = None,
        max_relations: int | None = None,
        wrong_edges: int | None = None,
        edge_dropout: float | None = None,
        edge_rewiring: float | None = None,
        confidence_spread: float | None = None,
        seed: int = 0,
        *,
        text_graphs: bool = False,
    ) -> None:
        if difficulty not in _PRESETS:
            raise ValueError(f"RelationScenes: difficulty={difficulty!r}, expected one of {', '.join(_PRESETS)}")
        preset = _PRESETS[difficulty]
        self.num_images = {"train": num_train, "val": num_val, "test": num_test}
        self.captions_per_image = captions_per_image
        self.shared_captions = shared_captions
        self.twins: list[TwinKind] = list(TWIN_KINDS if twins is None else twins)
        self.feature_dim = feature_dim
        self.seed = seed
        self.text_graphs = text_graphs
        self.min_objects = int(preset["min_objects"] if min_objects is None else min_objects)
        self.max_objects = int(preset["max_objects"] if max_objects is None else max_objects)
        self.max_relations = int(preset["max_relations"] if max_relations is None else max_relations)
        self.wrong_edges = int(preset["wrong_edges"] if wrong_edges is None else wrong_edges)
        self.noise = preset["noise"] if noise is None else noise
        self.two_relations = preset["two_relations"] if two_relations is None else two_relations
        self.edge_dropout = preset["edge_dropout"] if edge_dropout is None else edge_dropout
        self.edge_rewiring = preset["edge_rewiring"] if edge_rewiring is None else edge_rewiring
        self.confidence_spread = preset["confidence_spread"] if confidence_spread is None else confidence_spread
        for problem in self._problems():
            raise ValueError(f"RelationScenes: {problem}")

    @staticmethod
    def words() -> list[str]:
        """Every word that a caption can have, sorted: a vocabulary without unknown words."""
        return grammar.words()

    def split(self, stage: Stage) -> ImageTextSplit:
        """The images and captions of one stage; the same at every call."""
        self._check_stage(stage)
        scenes = sample_scenes(
            self._rng(_SCENES, stage),
            self._kinds(stage),
            min_objects=self.min_objects,
            max_objects=self.max_objects,
            max_relations=self.max_relations,
        )
        lengths = np.repeat(scenes.count, 2)
        order = shuffled(self._rng(_REGION_ORDER, stage), np.arange(self.max_objects) < lengths[:, None])  # (N, M)
        images = np.arange(len(lengths))[:, None]
        category = np.repeat(scenes.category, 2, 0)[images, order]
        boxes = scenes.boxes.reshape(len(lengths), -1, 4)[images, order]
        absent = np.arange(self.max_objects) >= lengths[:, None]
        boxes[absent], category[absent] = 0, -1
        relations, scores = self._graph(scenes, order, stage)
        captions, twin_kinds = self._captions(scenes, stage)
        caption_image = np.repeat(np.arange(len(lengths)), self.captions_per_image)
        return ImageTextSplit(
            self._features(scenes, order, absent, stage),
            captions,
            caption_image,
            image_ids=[f"{stage}-{pair:05d}{twin}" for pair in range(len(scenes.count)) for twin in "ab"],
            lengths=lengths,
            boxes=boxes,
            labels=category,
            relations=relations,
            relation_scores=scores,
            caption_relations=[grammar.relation_spans(text) for text in captions] if self.text_graphs else None,
            caption_twin=np.where(np.array(twin_kinds) == "", -1, caption_image ^ 1),
            caption_twin_kind=twin_kinds,
            pictures=SceneDrawings(scenes),
            names=Names(self.label_names, self.predicates),
            name=f"RelationScenes {stage}",
        )

    def _kinds(self, stage: Stage) -> Array:
        """(P,) the kind of each pair of twins, periodic so that a small split has all of them."""
        period = [TWIN_KINDS.index(kind) for kind in self.twins if kind != "semantic"]
        if "semantic" in self.twins:
            semantic = TWIN_KINDS.index("semantic")
            period = [kind for spatial in period for kind in (semantic, spatial)] or [semantic]
        return np.resize(np.array(period), self.num_images[stage] // 2)

    def _codes(self) -> tuple[Array, Array, Array]:
        """What a category, a colour and a size add to a feature: one row each; the same in every split."""
        rows = (len(self.categories), len(self.colours), len(self.sizes))
        codes = self._rng(_CODES).standard_normal((sum(rows), self.feature_dim))
        return codes[: rows[0]], codes[rows[0] : -rows[2]], codes[-rows[2] :]

    def _features(self, scenes: Scenes, order: Array, absent: Array, stage: Stage) -> Array:
        category, colour, size = self._codes()
        clean = category[scenes.category] + colour[scenes.colour] + size[scenes.size]  # (P, M, F)
        features = np.repeat(clean, 2, 0)[np.arange(len(order))[:, None], order]
        features += self.noise * self._rng(_NOISE, stage).standard_normal(features.shape)
        features[absent] = 0
        return features.astype(np.float32)

    def _graph(self, scenes: Scenes, order: Array, stage: Stage) -> tuple[Array, Array]:
        edges, scores = corrupt_edges(
            scenes,
            self._rng(_CORRUPTION, stage),
            self._rng(_WRONG_EDGES, stage),
            dropout=self.edge_dropout,
            rewiring=self.edge_rewiring,
            wrong_edges=self.wrong_edges,
            spread=self.confidence_spread,
        )
        return place_edges(edges, scores, order, self._rng(_EDGE_ORDER, stage))

    def _captions(self, scenes: Scenes, stage: Stage) -> tuple[list[str], list[str]]:
        shape = (2 * len(scenes.count), self.captions_per_image, 48)
        captions, kinds = [], []
        for image, rows in enumerate(self._rng(_CAPTIONS, stage).random(shape)):
            kind = "semantic" if TWIN_KINDS[scenes.kind[image // 2]] == "semantic" else "spatial"
            for number, row in enumerate(rows.tolist()):
                draws: Iterator[float] = iter(row)
                two, shared = next(draws) < self.two_relations, number < self.shared_captions
                captions.append(describe(scenes, image // 2, image % 2, draws, two=two, shared=shared))
                kinds.append("" if shared else kind)
        return captions, kinds

    def _rng(self, stream: int, stage: str = "train") -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, _STAGES.index(stage)])

    def _problems(self) -> Iterator[str]:
        for stage, number in self.num_images.items():
            if number < 2 or number % 2:
                yield f"num_{stage}={number}, expected an even number, because images come in twins"
        for name in ("captions_per_image", "feature_dim", "max_relations"):
            if getattr(self, name) < 1:
                yield f"{name}={getattr(self, name)}, expected 1 or more"
        for name in ("wrong_edges", "seed"):
            if getattr(self, name) < 0:
                yield f"{name}={getattr(self, name)}, expected 0 or more"
        if not 0 <= self.shared_captions <= self.captions_per_image:
            yield f"shared_captions={self.shared_captions}, expected 0..{self.captions_per_image} (captions_per_image)"
        unknown = [kind for kind in self.twins if kind not in TWIN_KINDS]
        if unknown or not self.twins or len(set(self.twins)) != len(self.twins):
            yield f"twins={self.twins}, expected different ones of {', '.join(TWIN_KINDS)}"
        if not 4 <= self.min_objects <= self.max_objects <= MOST_OBJECTS:
            yield (
                f"min_objects={self.min_objects}, max_objects={self.max_objects}, "
                f"expected 4 <= min_objects <= max_objects <= {MOST_OBJECTS}"
            )
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            yield f"noise={self.noise}, expected a finite number, 0 or more"
        for name in ("two_relations", "edge_dropout", "edge_rewiring", "confidence_spread"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name}={getattr(self, name)}, expected a number in [0, 1]"
