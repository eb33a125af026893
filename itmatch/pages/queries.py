"""What somebody searches an index with, what is found, and why."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import MAGIC_PREFIX

from itmatch.batch import Fragments, Regions, SceneGraph
from itmatch.data import Names
from itmatch.formats.arrays import read_array
from itmatch.formats.files import existing_file
from itmatch.models import MatchingModel
from itmatch.models.photos import extractor_of, names_of, photo_batches
from itmatch.pages.effects import RelationEffects, explain_relations
from itmatch.pages.explaining import explain
from itmatch.pages.explanation import Explanation
from itmatch.pages.inputs import GivenRelation
from itmatch.pages.relations import check_reads_relations
from itmatch.search import Hits, Index
from itmatch.search.scan import wide

MOST_REGIONS = 1000
MOST_RELATIONS = 2000  # without each of which the image is encoded once more


class Query(ABC):
    """Something that an index is searched with.

    Attributes:
        index: what is searched.
    """

    index: Index

    @abstractmethod
    def search(self, top: int) -> Hits:
        """The best answers."""

    @abstractmethod
    def explain(self, row: int) -> Explanation:
        """How the answer in a row of the index meets the query."""


@dataclass
class TextQuery(Query):
    """A text, which finds images."""

    index: Index
    text: str

    def search(self, top: int) -> Hits:
        """The images that fit best; unknown words are told by what shows the hits."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return self.index.search([self.text], top)

    def is_unknown(self) -> bool:
        """Whether the model knows no word of the text, so that what is found is chance."""
        tokenizer = self.index.model.tokenizer
        return tokenizer is not None and tokenizer.unknown_share([self.text]) == 1

    def explain(self, row: int) -> Explanation:
        """How the regions of an image meet the words."""
        return explain_stored(self.index, row, self.text)


@dataclass
class StoredImage(Query):
    """An image of the index, which finds captions."""

    index: Index
    row: int

    def search(self, top: int) -> Hits:
        """The captions that fit best."""
        return self.index.search(stored_image(self.index, self.row), top, kind="captions")

    def explain(self, row: int) -> Explanation:
        """How the regions meet the words of a caption."""
        return explain_stored(self.index, self.row, caption_of(self.index, row))


@dataclass
class GivenImage(Query):
    """An image from elsewhere, which finds captions: its fragments, and of a photo what they were made of."""

    index: Index
    fragments: Fragments
    regions: Regions | None = None
    names: Names | None = None
    picture: str | None = None

    @classmethod
    def read(cls, index: Index, path: Path) -> GivenImage:
        """A photo, for a model that takes photos; or a ``.npy`` file (regions, features), for a model of features.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is not what the model takes.
        """
        model = index.model
        if not model.takes_photos or is_array(path):
            return cls(index, model.encode_images(_features(model, path)))
        regions = next(photo_batches([path], model.image_encoder, model.extractor))
        names = names_of(extractor_of(model.image_encoder, model.extractor))
        return cls(index, model.encode_images(regions), regions, names, str(path))

    def search(self, top: int) -> Hits:
        """The captions that fit best."""
        return self.index.search(self.fragments, top, kind="captions")

    def similar(self, top: int) -> Hits:
        """The images that are most like it."""
        return self.index.similar(self.fragments, top)

    def explain(self, row: int) -> Explanation:
        """How the regions meet the words of a caption."""
        text, regions = caption_of(self.index, row), self.regions
        if regions is None:
            return explain(self.index.model, self.fragments, text)
        return explain(
            self.index.model,
            self.fragments,  # not the regions, which would be encoded again for each caption
            text,
            boxes=None if regions.boxes is None else regions.boxes[0],
            labels=None if regions.labels is None else regions.labels[0].tolist(),
            relations=None if regions.graph is None else _triples(regions.graph),
            picture=self.picture,
            names=self.names,
        )


def stored_image(index: Index, row: int) -> Fragments:
    """The fragments of an image of the index, in float32, where the model is."""
    return wide(index.images.fragments([row]), slice(0, 1)).to(index.model.device)


def caption_of(index: Index, row: int) -> str:
    """The text of a caption of the index."""
    assert index.captions.texts is not None
    return index.captions.texts[row]


def explain_stored(index: Index, row: int, text: str) -> Explanation:
    """How the regions of an image of the index meet the words of a text."""
    images = index.images
    found = explain(
        index.model,
        stored_image(index, row),
        text,
        boxes=images.boxes(row),
        relations=images.relations(row),
        labels=images.labels(row),
        names=images.names,
    )
    picture = None if images.pictures is None else images.pictures[row]
    return replace(found, picture=picture)  # a photo that is gone is told of in its place


def effects_stored(index: Index, row: int, text: str) -> RelationEffects:
    """What each relation of an image of the index adds to the score of a text.

    Raises:
        ValueError: the model reads no relations, the image has none or too many, or the index does not keep what the
            model read of it.
    """
    check_reads_relations(index.model)
    regions = index.images.regions(row)
    if regions is None:
        told = "this index does not keep what the model read of the images, of which relations are left out"
        raise ValueError(f"{told}: build it with itmatch index --keep_regions")
    count = 0 if regions.graph is None else len(regions.graph.row)
    if count == 0:
        raise ValueError("this image has no relations")
    if count > MOST_RELATIONS:
        raise ValueError(f"this image has {count} relations, expected {MOST_RELATIONS} at most")
    return explain_relations(index.model, regions, text, names=index.images.names)


def _triples(graph: SceneGraph) -> list[GivenRelation]:
    """The relations of one image: region, predicate, region, weight."""
    predicates = [-1] * len(graph.row) if graph.predicate is None else graph.predicate.tolist()
    weights = [1.0] * len(predicates) if graph.confidence is None else graph.confidence.tolist()
    return list(zip(graph.edge_index[0].tolist(), predicates, graph.edge_index[1].tolist(), weights, strict=True))


def is_array(path: Path) -> bool:
    """Whether a file is an array of numpy, by how it begins.

    Raises:
        FileNotFoundError: no such file.
    """
    with existing_file(path).open("rb") as file:
        return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX


def _features(model: MatchingModel, path: Path) -> torch.Tensor:
    """(1, R, F) of a file."""
    size = getattr(model.image_encoder, "in_features", None)
    wanted = f"features (regions, {size or 'features'})"
    if not is_array(path):
        told = "this model takes features of regions, not photos"
        raise ValueError(f"{path}: {told}; expected a .npy file of {wanted}")
    array = read_array(path)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    fits = array.ndim == 2 and array.shape[1] == (size or array.shape[1]) and 0 < len(array) <= MOST_REGIONS
    if not fits or array.dtype.kind != "f":
        found = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{path}: {found}, expected {wanted}, {MOST_REGIONS} regions at most")
    with np.errstate(over="ignore"):
        features = torch.from_numpy(array.astype(np.float32))[None]
    if not bool(torch.isfinite(features).all()):
        raise ValueError(f"{path}: NaN or inf in the features")
    return features
