"""From a model, an image and a caption to an explanation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from itmatch.batch import Captions, Fragments, Regions
from itmatch.data import CaptionItem, Collator, ImageItem, Names
from itmatch.formats.arrays import Array
from itmatch.models import MatchingModel
from itmatch.models.photos import extractor_of, names_of, photo_batches
from itmatch.ops.arrays import ArrayLike
from itmatch.ops.checks import check_kind
from itmatch.pages.explanation import Explanation, Relation
from itmatch.pages.inputs import (
    GivenRelation,
    OneImage,
    checked_boxes,
    checked_labels,
    one_caption,
    one_image,
    shown_picture,
)
from itmatch.pages.relations import graph_of, level_of_relations, phrases_of, relations_taken
from itmatch.pages.words import shown_words


def explain(
    model: MatchingModel,
    image: OneImage,
    text: str | CaptionItem | Sequence[str | CaptionItem],
    *,
    boxes: ArrayLike | None = None,
    relations: Iterable[GivenRelation] | None = None,
    labels: ArrayLike | None = None,
    picture: str | Path | None = None,
    names: Names | None = None,
) -> Explanation:
    """How the regions of one image meet the words of one caption.

    Args:
        model: with its tokenizer.
        image: one image: an item of a split, Regions, features (R, F) or (1, R, F), or fragments that the model made of
            it; or the path of a photo, for models that take photos (with an extractor; CLIP and SigLIP). A list of one
            is as good.
        text: the caption; an item of a split brings its parsed relations with it.
        boxes: (R, 4) fractions of width and height, for features and fragments; the others have their own.
        relations: subject region, predicate (a name or a number), object region of each, and perhaps a confidence, for
            fragments; the others have their own. Those are shown that the model takes.
        labels: object class of each region, for features and fragments; the others have their own.
        picture: the path of a photo, or a drawing (SVG); by default the photo itself, or none.
        names: what labels and predicates are called, as ``split.names`` knows them; None: of a photo as its
            extractor calls them.

    Raises:
        TypeError: an argument is something else.
        ValueError: more than one image or caption, boxes, labels or relations that do not fit the regions, no
            tokenizer, or a model that cannot take the image.
        FileNotFoundError: there is no such photo.

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
    check_kind("model", model, MatchingModel)
    one, said, shown_as = one_image(image, boxes, labels, relations), one_caption(text), shown_picture(picture)
    captions = _captions(model, said)
    if isinstance(one, Path):
        shown_as = str(one) if shown_as is None else shown_as
        names = names_of(extractor_of(model.image_encoder, model.extractor)) if names is None else names
    names = Names() if names is None else check_kind("names", names, Names)
    if isinstance(one, Fragments):
        side = _given_side(model, one, boxes, relations, labels, names)
    else:
        side = _image_side(model, one, names)
    fragments = model.encode_texts(captions)
    caption = said if isinstance(said, str) else said.text
    shown = shown_words(model.tokenizer, caption, captions.input_ids[0].tolist())
    kept = side.mask[0].nonzero()[:, 0].tolist()
    row_of = {place: row for row, place in enumerate(kept)}
    aligned = _aligned(model, side.fragments, fragments)
    phrases = phrases_of(model, captions, shown)
    numbers = [number for number, _ in phrases]
    return Explanation(
        text=caption,
        score=float(model.score(side.fragments, fragments)),
        alignment=None if aligned is None else aligned[np.ix_(kept, shown.places)],
        words=list(shown.names),
        joined=list(shown.joined),
        regions=[_region_name(names, side.labels, place) for place in kept],
        boxes=None if side.boxes is None else np.asarray(side.boxes, np.float32)[kept],
        picture=shown_as,
        relations=[replace(one, subject=row_of[one.subject], object=row_of[one.object]) for one in side.relations],
        phrases=[name for _, name in phrases],
        relation_alignment=level_of_relations(side.fragments, fragments, aligned, len(side.relations), numbers),
    )


@dataclass(frozen=True, eq=False)
class _ImageSide:
    """An image as its fragments, and what is known of their places."""

    fragments: Fragments
    mask: Tensor  # (1, R), which regions are real
    boxes: Array | Tensor | None
    labels: Tensor | None
    relations: list[Relation]


def _image_side(model: MatchingModel, image: ImageItem | Regions | Path, names: Names) -> _ImageSide:
    if isinstance(image, Path):
        image = next(photo_batches([image], model.image_encoder, model.extractor))
    if isinstance(image, ImageItem):
        assert model.tokenizer is not None
        regions = Collator(model.tokenizer)([image]).regions
        assert regions is not None
        image = regions
    boxes = None if image.boxes is None else image.boxes[0].cpu()
    labels = None if image.labels is None else image.labels[0].cpu()
    relations = relations_taken(model, image.mask, image.boxes, image.graph, names.predicate)
    return _ImageSide(model.encode_images(image), image.mask.cpu(), boxes, labels, relations)


def _given_side(
    model: MatchingModel,
    fragments: Fragments,
    boxes: ArrayLike | None,
    relations: Iterable[GivenRelation] | None,
    labels: ArrayLike | None,
    names: Names,
) -> _ImageSide:
    mask = fragments.objects().mask.cpu()[:, model.image_encoder.offset or 0 :]
    mask = mask[:, : int(mask[0].nonzero().max()) + 1]  # relations come behind the regions
    places, classes = checked_boxes(boxes, mask.shape[1]), checked_labels(labels, mask.shape[1])
    taken: list[Relation] = []
    if relations is not None:
        graph, called = graph_of(relations, mask.shape[1], names.predicate)
        graph.check_nodes(mask)
        there = None if places is None else places[None]
        taken = relations_taken(model, mask, there, graph, lambda number: None if number < 0 else called[number])
    return _ImageSide(fragments, mask, places, classes, taken)


def _captions(model: MatchingModel, text: str | CaptionItem) -> Captions:
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer, so that words have no names: set model.tokenizer")
    if isinstance(text, str):
        return model.tokenizer.batch([text])
    captions = Collator(model.tokenizer)([text]).captions
    assert captions is not None
    return captions


def _aligned(model: MatchingModel, image: Fragments, text: Fragments) -> Array | None:
    """(R, W) of all fragments, or None."""
    try:
        return model.align(image, text).float().cpu().numpy()
    except NotImplementedError:
        return None


def _region_name(names: Names, labels: Tensor | None, place: int) -> str:
    name = None if labels is None else names.label(int(labels[place]))
    return f"region {place + 1}" if name is None else name
