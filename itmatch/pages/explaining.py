"""From a model, an image and a caption to an explanation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from itmatch.batch import Captions, Fragments, Regions
from itmatch.data import CaptionItem, Collator, ImageItem, Names
from itmatch.formats.arrays import Array
from itmatch.models import MatchingModel
from itmatch.nn.relations.spatial_semantic import SpatialSemanticGCN
from itmatch.nn.relations.textual_graph import TextualRelationGraph
from itmatch.nn.relations.visual_graph import VisualRelationGraph
from itmatch.ops.graphs import strongest_edges
from itmatch.pages.explanation import Explanation, Relation
from itmatch.pages.photos import photo_regions
from itmatch.pages.words import ShownWords, shown_words


def explain(
    model: MatchingModel,
    image: ImageItem | Regions | Fragments | str | Path,
    text: str | CaptionItem,
    *,
    boxes: Array | Tensor | None = None,
    relations: Iterable[Sequence[int]] | None = None,
    labels: Sequence[int] | None = None,
    picture: str | None = None,
    names: Names | None = None,
) -> Explanation:
    """How the regions of one image meet the words of one caption.

    Args:
        model: with its tokenizer.
        image: one image: an item of a split, regions, or fragments that the model made of it; or the path of a photo,
            for models that look at photos (CLIP, SigLIP).
        text: the caption; an item of a split brings its parsed relations with it.
        boxes: (R, 4) fractions of width and height, for fragments; regions have their own.
        relations: subject region, predicate, object region of each, for fragments; regions have their own.
        labels: object class of each region, for fragments; regions have their own.
        picture: the path of a photo, or a drawing (SVG); by default the photo itself, or none.
        names: what labels and predicates are called, as ``split.names`` knows them.

    Raises:
        ValueError: more than one image, no tokenizer, or a model that cannot take the image.

    Example:
        >>> from itmatch.data import RelationScenes, Vocabulary
        >>> from itmatch.models import chan_gru
        >>> source = RelationScenes("easy", num_test=2)
        >>> split = source.split("test")
        >>> model = chan_gru(Vocabulary.build([source.words()], min_count=1), region_dim=64, embed_dim=8)
        >>> found = explain(model, split.image(0), split.captions[0], picture=split.picture(0), names=split.names)
        >>> found.alignment.shape == (len(found.regions), len(found.words))
        True
    """
    names = Names() if names is None else names
    if isinstance(image, (str, Path)):
        picture = str(image) if picture is None else picture
        image, boxes = photo_regions(model, Path(image))
    captions = _captions(model, text)
    caption = text if isinstance(text, str) else text.text
    if isinstance(image, ImageItem):
        image = _regions(model, image)
    edges = _Edges.given(relations)
    if isinstance(image, Regions):
        boxes = image.boxes[0] if image.boxes is not None else boxes
        labels = image.labels[0].tolist() if image.labels is not None else labels
        edges = _edges_taken(model, image)
        image = model.encode_images(image)
    fragments = model.encode_texts(captions)
    shown = shown_words(model.tokenizer, caption, captions.input_ids[0].tolist())
    kept = image.objects().mask[0].nonzero()[:, 0].tolist()
    row_of = {place: row for row, place in enumerate(kept)}
    aligned = _aligned(model, image, fragments)
    pairs = _phrases(model, captions, shown)
    return Explanation(
        text=caption,
        score=float(model.score(image, fragments)),
        alignment=None if aligned is None else aligned[np.ix_(kept, shown.places)],
        words=list(shown.names),
        joined=list(shown.joined),
        regions=[_region_name(names, labels, place) for place in kept],
        boxes=None if boxes is None else np.asarray(boxes, np.float32)[kept],
        picture=picture,
        relations=[
            Relation(row_of[s], names.predicate(p), row_of[o], round(weight, 4)) for s, p, o, weight in edges.table
        ],
        phrases=[name for _, name in pairs],
        relation_alignment=_level_of_relations(image, fragments, aligned, len(edges.table), [row for row, _ in pairs]),
    )


class _Edges(NamedTuple):
    """Subject, predicate (-1 = unknown), object and confidence of each relation of an image."""

    table: list[tuple[int, int, int, float]]

    @classmethod
    def given(cls, relations: Iterable[Sequence[int]] | None) -> _Edges:
        return cls([] if relations is None else [(int(s), int(p), int(o), 1.0) for s, p, o in relations])


def _captions(model: MatchingModel, text: str | CaptionItem) -> Captions:
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer, so that words have no names: set model.tokenizer")
    if isinstance(text, str):
        return model.tokenizer.batch([text])
    captions = Collator(model.tokenizer)([text]).captions
    assert captions is not None
    return captions


def _regions(model: MatchingModel, item: ImageItem) -> Regions:
    assert model.tokenizer is not None
    regions = Collator(model.tokenizer)([item]).regions
    assert regions is not None
    return regions


def _edges_taken(model: MatchingModel, regions: Regions) -> _Edges:
    """The relations between regions that the image encoder takes, in the order of their fragments if it makes any."""
    if len(regions) != 1:
        raise ValueError(f"explain: {len(regions)} images, expected one")
    found: list[tuple[int, int, int, float]] = []
    for block in getattr(model.image_encoder, "relations", None) or ():
        if isinstance(block, VisualRelationGraph):
            _, ends, predicates, weights = block.edges(regions.mask, regions.boxes, regions.graph)
            found += zip(*ends.tolist(), predicates.tolist(), weights.tolist(), strict=True)
        elif isinstance(block, SpatialSemanticGCN) and "semantic" in block.branches and regions.graph is not None:
            graph = regions.graph
            kept = strongest_edges(graph, block.min_confidence)
            predicates = torch.full_like(kept, -1) if graph.predicate is None else graph.predicate[kept]
            weights = torch.ones(len(kept)) if graph.confidence is None else graph.confidence[kept]
            found += zip(*graph.edge_index[:, kept].tolist(), predicates.tolist(), weights.tolist(), strict=True)
    return _Edges([(subject, predicate, target, weight) for subject, target, predicate, weight in found])


def _aligned(model: MatchingModel, image: Fragments, text: Fragments) -> Array | None:
    """(R, W) of all fragments, or None."""
    try:
        return model.align(image, text).float().cpu().numpy()
    except NotImplementedError:
        return None


def _phrases(model: MatchingModel, captions: Captions, shown: ShownWords) -> list[tuple[int, str]]:
    """The fragments of a caption that are relations, as their number among these and their words."""
    blocks = getattr(model.text_encoder, "relations", None) or ()
    block = next((block for block in blocks if isinstance(block, TextualRelationGraph)), None)
    if block is None:
        return []
    _, ends, predicates = block.edges(captions.mask, captions.graph)
    word = dict(zip(shown.places, shown.names, strict=True))
    middle = [-1] * ends.shape[1] if predicates is None else predicates.tolist()
    found = []
    for number, (subject, target, predicate) in enumerate(zip(*ends.tolist(), middle, strict=True)):
        if subject in word and target in word:
            parts = [word[subject], *([word[predicate]] if predicate in word else []), word[target]]
            found.append((number, " ".join(parts)))
    return found


def _level_of_relations(
    image: Fragments, text: Fragments, aligned: Array | None, relations: int, phrases: list[int]
) -> Array | None:
    """(relations, phrases) of the fragments that are relations on both sides, or None."""
    nodes, edges = image.relations(), text.relations()
    if aligned is None or nodes is None or edges is None:
        return None
    rows, columns = (side.mask[0].nonzero()[:, 0].cpu().numpy() for side in (nodes, edges))
    if len(rows) != relations or not relations or not phrases:
        return None
    level: Array = aligned[np.ix_(rows, columns[phrases])]
    return level


def _region_name(names: Names, labels: Sequence[int] | None, place: int) -> str:
    name = None if labels is None else names.label(int(labels[place]))
    return f"region {place + 1}" if name is None else name
