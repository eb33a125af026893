"""The queries that a run did best and worst, with what it saw."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import torch

from itmatch.data import ImageTextSplit
from itmatch.formats.messages import reason
from itmatch.models import MatchingModel
from itmatch.pages.explaining import explain
from itmatch.pages.html import fragment
from itmatch.pages.report.choosing import PATIENCE, Chooser, Query
from itmatch.pages.report.record import RunRecord

SIDE = 420  # pixels of a photo
_TOLD = {
    "Worst captions": "Captions whose image came last, beside the image that the model takes instead.",
    "Worst images": "Images whose captions came last, with the caption that the model takes instead.",
    "Best captions": "Captions whose image came first, by most.",
}


def queries_section(run: RunRecord, model: MatchingModel, split: ImageTextSplit, count: int = 3) -> str:
    """The best and the worst queries, with pictures and alignments.

    What cannot be shown is noted in the record of the run.
    """
    if run.ranks is None or not _is_of(run, split):
        return ""
    chooser = Chooser(run.ranks, model, split)
    if chooser.images is None:
        run.missing(f"encoding all images would take more than {PATIENCE:.0f} s: what was found instead is not shown")
    best, worst = chooser.captions(count)
    cards = _Cards(run, model, split)
    shown = {
        "Worst captions": [cards.of_caption(query) for query in worst],
        "Worst images": [cards.of_image(query) for query in chooser.worst_images(count)],
        "Best captions": [cards.of_caption(query) for query in best],
    }
    parts = []
    for title, made in shown.items():
        if any(made):
            parts.append(f'<h2>{title}</h2><p class="itm-note">{_TOLD[title]} Point at a word or a region.</p>')
            parts.append(f'<div class="itm-queries">{"".join(made)}</div>')
    return "".join(parts)


def _is_of(run: RunRecord, split: ImageTextSplit) -> bool:
    """Whether the ranks of a run are of this split; if not, says so."""
    ranks, owner = run.ranks, torch.as_tensor(split.caption_image)
    same = ranks is not None and ranks.image_ids == tuple(split.image_ids) and torch.equal(ranks.caption_image, owner)
    if not same:
        run.missing(f"test_ranks.npz is of other data than {split.name}: no queries are shown")
    return same


class _Cards:
    """Queries as parts of a page; an image that cannot be read is noted, and its query left out."""

    def __init__(self, run: RunRecord, model: MatchingModel, split: ImageTextSplit) -> None:
        self.run, self.model, self.split = run, model, split

    def of_caption(self, query: Query) -> str:
        """A caption with its image and, where another one was found instead, that one."""
        halves = [self._half("its image" if query.found is not None else "", query.image, query.caption)]
        if query.found not in (None, query.image):
            halves.insert(0, self._half("found first", int(query.found or 0), query.caption))
        rank = f"rank {query.rank + 1} of {self.split.num_images} images"
        return self._card(self.split.captions[query.caption], rank, halves)

    def of_image(self, query: Query) -> str:
        """An image with the best of its captions, and the one that was found instead."""
        halves = [self._half(f"its caption: {self.split.captions[query.caption]}", query.image, query.caption)]
        if query.found is not None:
            found = self.split.captions[query.found]
            halves.insert(0, self._half(f"found first: {found}", query.image, query.found))
        rank = f"rank {query.rank + 1} of {self.split.num_captions} captions"
        return self._card(self.split.image_ids[query.image], rank, halves)

    def _card(self, title: str, rank: str, halves: list[str]) -> str:
        if not all(halves):
            return ""
        head = f"<h3>{escape(title)}</h3><p>{rank}</p>"
        return f'<article class="itm-query">{head}<div class="itm-pair">{"".join(halves)}</div></article>'

    def _half(self, label: str, image: int, caption: int) -> str:
        split = self.split
        try:
            item, text = split.image(image), split.caption(caption)
            found = explain(self.model, item, text, names=split.names)
            found = replace(found, picture=split.picture(image))  # a photo that is gone is told of in its place
            part = fragment(found, side=SIDE)
        except (OSError, ValueError) as error:
            self.run.missing(f"image {split.image_ids[image]!r}: {reason(error)}")
            return ""
        name = split.image_ids[image]
        told = f"{label}, " if ":" in label else f"{label}: {name}, " if label else f"{name}, "
        return f'<div class="itm-half"><p class="itm-note">{escape(told)}score {found.score:.3f}</p>{part}</div>'
