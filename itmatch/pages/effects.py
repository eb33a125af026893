"""What each relation of an image adds to the score of a caption: leave one out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itmatch.batch import Regions, SceneGraph
from itmatch.data import CaptionItem, Collator, ImageItem, Names
from itmatch.errors import NonFiniteError
from itmatch.models import MatchingModel
from itmatch.ops.checks import check_whole
from itmatch.pages.explanation import Relation
from itmatch.pages.inputs import one_caption, one_image
from itmatch.pages.relations import check_reads_relations


@dataclass(frozen=True)
class RelationEffects:
    """How the score of a pair changes when relations of the image are left out.

    Args:
        score: with all relations.
        without_any: with none of them. The effects need not add up to the difference: relations act together.
        effects: the score with all of them less the score without this one, the strongest first.
        regions: what each region is called; None where it is not known.
    """

    score: float
    without_any: float
    effects: list[tuple[Relation, float]]
    regions: list[str | None]

    def called(self, relation: Relation) -> str:
        """A relation by the names of its regions, or their numbers from 1 on where there are none."""
        ends = (self.regions[place] or f"region {place + 1}" for place in (relation.subject, relation.object))
        return f" {relation.name or '-'} ".join(ends)

    def __str__(self) -> str:
        """A line per relation."""
        lines = [f"score {self.score:.4f}, without any relation {self.without_any:.4f}"]
        return "\n".join([*lines, *(f"{effect:+.4f}  {self.called(one)}" for one, effect in self.effects)])

    def fragment(self) -> str:
        """A ``<div>`` with a table, for a page that has the style and the script of :func:`itmatch.pages.page`.

        In a ``<div>`` of :meth:`Explanation.fragment <itmatch.pages.Explanation.fragment>` of the same image, a
        relation of the table lights up in the picture.
        """
        from itmatch.pages.html import effects_fragment

        return effects_fragment(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from itmatch.pages.page import framed

        return framed("What each relation adds", self.fragment())


def explain_relations(
    model: MatchingModel,
    image: ImageItem | Regions | Sequence[ImageItem | Regions],
    text: str | CaptionItem | Sequence[str | CaptionItem],
    *,
    names: Names | None = None,
    batch_size: int = 64,
) -> RelationEffects:
    """What each relation of an image adds to the score of one caption, for CMSEI, Hire and ReSG.

    The image is encoded once per relation, each time without that one. These are the relations that come with the
    image; edges that a block makes of the boxes stay. A relation that the model does not take, such as one below its
    least confidence, has an effect of 0.

    Args:
        model: whose image encoder reads relations.
        image: one image with relations: an item of a split, or Regions with a graph.
        text: the caption; an item of a split brings its parsed relations with it.
        names: what regions and predicates are called, as ``split.names`` knows them.
        batch_size: versions of the image that are encoded at a time.

    Raises:
        TypeError: something else than an image with its relations.
        ValueError: the model reads no relations, the image has none, or a score is NaN.

    Example:
        >>> from itmatch.data import RelationScenes, Vocabulary
        >>> from itmatch.models import cmsei_gru
        >>> source = RelationScenes("easy", num_test=2)
        >>> split = source.split("test")
        >>> vocabulary = Vocabulary.build([source.words()], min_count=1)
        >>> model = cmsei_gru(vocabulary, region_dim=64, embed_dim=8, word_dim=8)
        >>> found = explain_relations(model, split.image(0), split.captions[0], names=split.names)
        >>> len(found.effects) == len(split.image(0).relations)
        True
    """
    check_whole("batch_size", batch_size)
    given, said, called = one_image(image, None, None, None), one_caption(text), names or Names()
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer: set model.tokenizer")
    check_reads_relations(model)
    collate = Collator(model.tokenizer)
    if isinstance(given, ImageItem):
        regions = collate([given]).regions
    elif isinstance(given, Regions):
        regions = given
    else:
        raise TypeError(f"image: {type(given).__name__}, expected an item of a split or Regions, with relations")
    if regions is None or regions.graph is None or not regions.graph.row.numel():
        raise ValueError("image: without relations, expected some to leave out")
    caption = model.tokenizer.batch([said]) if isinstance(said, str) else collate([said]).captions
    assert caption is not None  # of a caption there are captions
    words = model.encode_texts(caption)
    graph = regions.graph
    kept = _kept(graph.edge_index.shape[1])  # (2 + E, E)
    parts = [
        model.score(model.encode_images(_versions(regions, graph, part)), words)[:, 0].cpu()
        for part in torch.split(kept, batch_size)
    ]
    scores = torch.cat(parts).double()
    if not bool(scores.isfinite().all()):
        raise NonFiniteError("the score of the image with this caption is NaN or infinite")
    score, without_any, *without = scores.tolist()
    relations = _relations(graph, called)
    effects = [(one, score - left) for one, left in zip(relations, without, strict=True)]
    labels = [-1] * regions.mask.shape[1] if regions.labels is None else regions.labels[0].tolist()
    shown = [called.label(label) for label in labels]
    return RelationEffects(score, without_any, sorted(effects, key=lambda pair: -abs(pair[1])), shown)


def _kept(edges: int) -> Tensor:
    """(2 + E, E) bool: which edges each version has: all, none, and all but one."""
    everything = torch.ones(1, edges, dtype=torch.bool)
    return torch.cat((everything, ~everything, ~torch.eye(edges, dtype=torch.bool)))


def _versions(regions: Regions, graph: SceneGraph, kept: Tensor) -> Regions:
    """One image as often as ``kept`` (V, E) has rows, each with its edges."""
    row, edge = kept.to(graph.row.device).nonzero().unbind(1)
    predicate, confidence = (None if part is None else part[edge] for part in (graph.predicate, graph.confidence))
    graphs = SceneGraph(graph.edge_index[:, edge], row, len(kept), predicate, confidence)
    single = replace(regions, graph=None)
    return replace(single._map(lambda part: part.expand(len(kept), *part.shape[1:])), graph=graphs)


def _relations(graph: SceneGraph, names: Names) -> list[Relation]:
    count = graph.edge_index.shape[1]
    predicates = [-1] * count if graph.predicate is None else graph.predicate.tolist()
    weights = [1.0] * count if graph.confidence is None else graph.confidence.tolist()
    subjects, objects = graph.edge_index.tolist()
    return [
        Relation(s, names.predicate(p), o, round(w, 4))
        for s, p, o, w in zip(subjects, predicates, objects, weights, strict=True)
    ]
