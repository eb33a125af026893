"""Which queries of a run are worth looking at."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from itmatch.batch import Batch, Fragments
from itmatch.data import CaptionDataset, Collator, ImageDataset, ImageTextSplit
from itmatch.evaluation.results.runs import StoredRanks
from itmatch.models import MatchingModel

PATIENCE = 20.0  # seconds that encoding all images, or all captions, may take
_BATCH = 64
_LOOKED_AT = 16  # of the captions that found their image, those among which the surest are looked for


@dataclass(frozen=True)
class Query:
    """A caption that looked for its image, or an image that looked for one of its captions.

    Args:
        image: number of the image.
        caption: number of the caption; of an image's own captions the one that the model likes best.
        rank: of the right answer, from 0.
        found: number of a wrong image, or caption, that the model puts before it, or None.
    """

    image: int
    caption: int
    rank: int
    found: int | None = None


class Chooser:
    """Chooses queries by the ranks of a run, and finds what the model takes instead of the right answer.

    Args:
        ranks: of the run.
        model: with its tokenizer.
        split: that the ranks are of.
    """

    def __init__(self, ranks: StoredRanks, model: MatchingModel, split: ImageTextSplit) -> None:
        self.ranks, self.owner = ranks.ranks, ranks.caption_image
        self.model, self.split = model, split
        assert model.tokenizer is not None
        self.collate = Collator(model.tokenizer)
        self.images = self._encoded(ImageDataset(split))

    def captions(self, count: int) -> tuple[list[Query], list[Query]]:
        """The captions that are best and worst at finding their image, each of another image.

        The worst have the largest ranks. Of those that found their image, some are looked at, spread over the split,
        and the best are surest of it: their image leads the next one by most.
        """
        ranks = self.ranks.text_to_image
        order = ranks.argsort(descending=True, stable=True).tolist()
        last = _of_different_images([caption for caption in order if ranks[caption] > 0], self.owner, count)
        first = (ranks == 0).nonzero()[:, 0].tolist()
        first = _of_different_images(first[:: max(1, len(first) // _LOOKED_AT)], self.owner, _LOOKED_AT)
        found: dict[int, int] = {}
        if self.images is not None and (first or last):
            asked = self.collate([self.split.caption(caption) for caption in [*first, *last]]).captions
            assert asked is not None
            scores = self.model.score(self.images, asked).cpu()  # (I, queries)
            found = {caption: int(scores[:, len(first) + i].argmax()) for i, caption in enumerate(last)}
            lead = _leads(scores[:, : len(first)], self.owner[first])
            first = [first[i] for i in lead.argsort(descending=True, stable=True).tolist()]
        parts = first[:count], last
        best, worst = ([Query(int(self.owner[c]), c, int(ranks[c]), found.get(c)) for c in part] for part in parts)
        return best, worst

    def worst_images(self, count: int) -> list[Query]:
        """The images whose own captions come latest; none where there is no time to encode all captions."""
        ranks = self.ranks.image_to_text
        chosen = [i for i in ranks.argsort(descending=True, stable=True)[:count].tolist() if ranks[i] > 0]
        texts = None if self.images is None or not chosen else self._encoded(CaptionDataset(self.split))
        if self.images is None or texts is None:
            return []
        queries = []
        for image in chosen:
            scores = self.model.score(self.images[image : image + 1], texts).cpu()[0]  # (T,)
            own = self.owner == image
            best, wrong = (int(scores.masked_fill(hidden, -torch.inf).argmax()) for hidden in (~own, own))
            queries.append(Query(image, best, int(ranks[image]), wrong))
        return queries

    def _encoded(self, items: Dataset[Any]) -> Fragments | None:
        """All images, or all captions, or None if that would take too long."""
        loader = DataLoader(items, _BATCH, collate_fn=self.collate)
        start, parts = time.monotonic(), []
        for number, batch in enumerate(loader, start=1):
            parts.append(self._encode(batch))
            if number > 1 and (time.monotonic() - start) / number * len(loader) > PATIENCE:
                return None
        return Fragments.cat(parts)

    def _encode(self, batch: Batch) -> Fragments:
        if batch.regions is not None:
            return self.model.encode_images(batch.regions)
        assert batch.captions is not None
        return self.model.encode_texts(batch.captions)


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
