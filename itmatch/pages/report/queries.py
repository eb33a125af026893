"""The queries that a run did best and worst, with what it saw."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from itmatch.batch import Fragments
from itmatch.data import CaptionItem, Collator, ImageDataset, ImageTextSplit
from itmatch.evaluation.results.runs import StoredRanks
from itmatch.formats.messages import reason
from itmatch.models import MatchingModel
from itmatch.pages.explaining import explain
from itmatch.pages.html import fragment
from itmatch.pages.report.record import RunRecord

_PATIENCE = 30.0  # seconds that encoding all images may take
_BATCH = 64
_LOOKED_AT = 16  # of the captions that found their image, those among which the surest are looked for
SIDE = 420  # pixels of a photo


@dataclass(frozen=True)
class Query:
    """A caption that looked for its image.

    Args:
        caption: number of the caption.
        image: number of its image.
        rank: of that image, from 0.
        found: number of another image that the model puts before it, or None.
    """

    caption: int
    image: int
    rank: int
    found: int | None = None


def queries_section(run: RunRecord, model: MatchingModel, split: ImageTextSplit, count: int = 3) -> str:
    """The best and the worst captions as queries, with pictures and alignments.

    What cannot be shown is noted in the record of the run.
    """
    if run.ranks is None or not _is_of(run.ranks, split, run):
        return ""
    gallery = _encoded(model, split)
    if gallery is None:
        run.missing(f"encoding all images would take more than {_PATIENCE:.0f} s: what was found instead is not shown")
    best, worst = chosen_queries(run.ranks, model, split, gallery, count)
    parts = []
    for title, told, queries in (
        ("Worst", "Captions whose image came last, beside the image that the model takes instead.", worst),
        ("Best", "Captions whose image came first.", best),
    ):
        cards = [card for query in queries if (card := _card(run, model, split, query))]
        if cards:
            parts.append(f'<h2>{title} queries</h2><p class="itm-note">{told} Point at a word or a region.</p>')
            parts.append(f'<div class="itm-queries">{"".join(cards)}</div>')
    return "".join(parts)


def chosen_queries(
    written: StoredRanks, model: MatchingModel, split: ImageTextSplit, gallery: Fragments | None, count: int
) -> tuple[list[Query], list[Query]]:
    """The captions that are best and worst at finding their image, each of another image.

    The worst have the largest ranks. Of those that found their image, some are looked at, spread over the split, and
    the best are surest of it: their image leads the next one by most.
    """
    ranks, owner = written.ranks.text_to_image, written.caption_image
    order = ranks.argsort(descending=True, stable=True).tolist()
    last = _of_different_images([caption for caption in order if ranks[caption] > 0], owner, count)
    first = (ranks == 0).nonzero()[:, 0].tolist()
    first = _of_different_images(first[:: max(1, len(first) // _LOOKED_AT)], owner, _LOOKED_AT)
    found: dict[int, int] = {}
    if gallery is not None and (first or last):
        asked = _texts(model, split, [*first, *last])
        scores = model.score(gallery, asked).cpu()  # (I, queries)
        found = {caption: int(scores[:, len(first) + i].argmax()) for i, caption in enumerate(last)}
        lead = _leads(scores[:, : len(first)], owner[first])
        first = [first[i] for i in lead.argsort(descending=True, stable=True).tolist()]
    made = [[Query(c, int(owner[c]), int(ranks[c]), found.get(c)) for c in part] for part in (first[:count], last)]
    return made[0], made[1]


def _leads(scores: Tensor, owner: Tensor) -> Tensor:
    """(Q,) by how much the right image leads the next one, of scores (I, Q)."""
    columns = torch.arange(scores.shape[1])
    right = scores[owner, columns]
    others = scores.index_put((owner, columns), scores.new_tensor(-torch.inf))
    return right - others.amax(0) if len(scores) > 1 else right


def _of_different_images(captions: Iterable[int], owner: Tensor, count: int) -> list[int]:
    kept: dict[int, int] = {}
    for caption in captions:
        kept.setdefault(int(owner[caption]), caption)
        if len(kept) == count:
            break
    return list(kept.values())


def _is_of(written: StoredRanks, split: ImageTextSplit, run: RunRecord) -> bool:
    """Whether the ranks are of this split; if not, says so."""
    same = written.image_ids == tuple(split.image_ids) and torch.equal(
        written.caption_image, torch.as_tensor(split.caption_image)
    )
    if not same:
        run.missing(f"test_ranks.npz is of other data than {split.name}: no queries are shown")
    return same


def _encoded(model: MatchingModel, split: ImageTextSplit) -> Fragments | None:
    """All images of a split, or None if that would take too long."""
    assert model.tokenizer is not None
    loader = DataLoader(ImageDataset(split), _BATCH, collate_fn=Collator(model.tokenizer))
    start, parts = time.monotonic(), []
    for number, batch in enumerate(loader, start=1):
        parts.append(model.encode_images(batch.regions))
        if (time.monotonic() - start) / number * len(loader) > _PATIENCE and number > 1:
            return None
    return Fragments.cat(parts)


def _texts(model: MatchingModel, split: ImageTextSplit, captions: list[int]) -> Fragments:
    assert model.tokenizer is not None
    asked = Collator(model.tokenizer)([split.caption(caption) for caption in captions]).captions
    assert asked is not None
    return model.encode_texts(asked)


def _card(run: RunRecord, model: MatchingModel, split: ImageTextSplit, query: Query) -> str:
    """A query with its own image and, where another one was found instead, that one."""
    caption = split.caption(query.caption)
    shown = [("its image" if query.found is not None else "", query.image)]
    if query.found is not None and query.found != query.image:
        shown.insert(0, ("found first", query.found))
    parts = []
    for label, image in shown:
        found = _explained(run, model, split, image, caption)
        if found is None:
            return ""
        part, score = found
        name = escape(f"{label}: {split.image_ids[image]}" if label else split.image_ids[image])
        parts.append(f'<div class="itm-half"><p class="itm-note">{name}, score {score:.3f}</p>{part}</div>')
    head = f"<h3>{escape(caption.text)}</h3><p>rank {query.rank + 1} of {split.num_images}</p>"
    return f'<article class="itm-query">{head}<div class="itm-pair">{"".join(parts)}</div></article>'


def _explained(
    run: RunRecord, model: MatchingModel, split: ImageTextSplit, image: int, caption: CaptionItem
) -> tuple[str, float] | None:
    try:
        found = explain(model, split.image(image), caption, picture=split.picture(image), names=split.names)
        return fragment(found, side=SIDE), found.score
    except (OSError, ValueError) as error:
        run.missing(f"image {split.image_ids[image]!r}: {reason(error)}")
        return None
