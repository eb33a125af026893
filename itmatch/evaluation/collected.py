"""What an evaluator has collected, as the split that protocols measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from itmatch.evaluation.memory import fitting_block, held_scores
from itmatch.evaluation.protocols import ScoredSplit
from itmatch.evaluation.ranks import RetrievalRanks, ScoreBlock, streamed_ranks
from itmatch.evaluation.relevance import Relevance, RetrievedHits, streamed_hits
from itmatch.evaluation.scores import FragmentScores
from itmatch.evaluation.top_k import TopK, top_k
from itmatch.evaluation.twins import twin_accuracy
from itmatch.ops.collectives import all_gather_ragged, all_reduce_sum, is_distributed, rank
from itmatch.ops.ragged import Ragged


class EvaluatedSplit(Protocol):
    """What an evaluation asks of a split: :class:`itmatch.data.ImageTextSplit` has it."""

    caption_twin: Any

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the images."""

    @property
    def captions(self) -> Sequence[str]:
        """The texts."""

    @property
    def caption_twin_kind(self) -> Sequence[str] | None:
        """What a caption and its twin differ in."""


class CollectedSplit(ScoredSplit):
    """What an evaluator has collected; images in the order of their places in the dataset, captions too.

    Args:
        similarities: one of each model.
        images: fragments as each model encodes them, and their places (N,) in the dataset.
        captions: the same, and their places with those of the images that they describe, (N, 2).
        dataset: knows the images' ids.
        memory: bytes that scoring may take.
        hold: more than one thing will be asked for: keep all scores, where they fit into half of the memory.
    """

    def __init__(
        self,
        similarities: Sequence[nn.Module],
        images: tuple[Sequence[Ragged], Tensor],
        captions: tuple[Sequence[Ragged], Tensor],
        dataset: EvaluatedSplit | None,
        *,
        memory: int,
        hold: bool,
    ) -> None:
        own, self.image_index, everywhere = _own_images(images[1])
        texts, places = _all_captions(list(captions[0]), captions[1])
        known = torch.isin(places[:, 1], everywhere) | (places[:, 1] < 0)  # queries are of no image
        if not bool(known.any()):
            raise ValueError("no caption describes any of the images")
        if not bool(known.all()):
            chosen = known.nonzero()[:, 0]
            texts, places = [text.select(chosen) for text in texts], places[chosen]
        self.caption_index, self.described = places.unbind(1)
        self.everywhere = everywhere
        self.row_of = _rows(self.image_index)
        own_images = [image.select(own) for image in images[0]]
        self.scores = FragmentScores(list(zip(similarities, own_images, texts, strict=True)))
        images_at_once, captions_at_once = fitting_block(self.scores, memory // 2 if hold else memory)
        self.blocks = {"chunk_size": images_at_once, "caption_chunk_size": captions_at_once}
        self.held = held_scores(self.scores, memory // 2, **self.blocks) if hold else None
        self.place = place = _rows(everywhere)  # among the images that were added; mostly that of the dataset
        ids = [str(i) for i in everywhere.tolist()]
        if dataset is not None:
            ids = [dataset.image_ids[i] for i in everywhere.tolist()]
        self.whole: RetrievalRanks | None = None
        super().__init__(place(self.described), len(everywhere), ids)

    def ranks(self, images: slice = slice(None)) -> RetrievalRanks:
        """Ranks among some consecutive images and their captions alone, on every process."""
        from itmatch.evaluation.recalls.metric import RetrievalMetrics  # here, since torchmetrics imports much

        chosen = self.everywhere[images]
        whole = len(chosen) == self.num_images
        if whole and self.whole is not None:
            return self.whole
        scores, rows, captions = self._among(chosen)
        caption_row = _rows(self.image_index[rows])(self.described[captions])
        found = streamed_ranks(scores, caption_row, len(rows), across_processes=is_distributed(), **self.blocks)
        metric = RetrievalMetrics().to(found.image_to_text.device)
        metric.update(found, self.image_index[rows], self.caption_index[captions])
        ranks = metric.ranks()
        self.whole = ranks if whole else self.whole
        return ranks

    def _among(self, chosen: Tensor) -> tuple[ScoreBlock, Tensor, Tensor]:
        """Some images and their captions alone: their scores, and the rows of both that are here."""
        rows = torch.isin(self.image_index, chosen).nonzero()[:, 0]
        captions = torch.isin(self.described, chosen).nonzero()[:, 0]
        held = self.held
        if held is not None:
            return (lambda i, t: held[rows[i][:, None], captions[t]]), rows, captions
        if len(chosen) == self.num_images:
            return self.scores, rows, captions
        return self.scores.select(rows, captions), rows, captions

    def hits(
        self, relevance: Relevance, places: int = 10, images: Tensor | None = None
    ) -> tuple[RetrievedHits, RetrievedHits]:
        """The first places of the rankings of all queries, on every process; by places among the images added."""
        chosen = self.everywhere if images is None else self.everywhere[images.to(self.everywhere.device)]
        scores, rows, captions = self._among(chosen)
        of_images, of_captions = streamed_hits(
            scores,
            self.place(self.image_index[rows]),
            captions,
            relevance,
            places=places,
            across_processes=is_distributed(),
            **self.blocks,
        )
        return RetrievedHits(*(all_gather_ragged(part) for part in of_images)), of_captions

    def top_k(self, k: int) -> tuple[TopK, TopK]:
        """The k best captions of all images and the k best images of all captions, on every process, by places."""
        own = self.row_of(self.described)  # -1 on another process
        found = top_k(self.scores if self.held is None else self.held, k, caption_image=own, **self.blocks)
        (captions, to_captions), (images, to_images) = ((part.indices.to(own.device), part.scores) for part in found)
        if not is_distributed():
            return found
        order = all_gather_ragged(self.image_index).argsort()
        images = self.place(self.image_index)[images]
        joined = [all_gather_ragged(part.T.contiguous()).T for part in (images, to_images.to(own.device).double())]
        every = TopK(*joined).in_order()
        return (
            TopK(*(all_gather_ragged(part)[order] for part in (captions, to_captions.to(own.device).double()))),
            every.best(k, every.indices == self.caption_image[:, None]),
        )

    def twin_accuracies(self, dataset: EvaluatedSplit | None) -> dict[str, float]:
        """Share of captions that prefer their image to its twin, where the dataset has twins."""
        if dataset is None or dataset.caption_twin is None:
            return {}
        twin = torch.as_tensor(dataset.caption_twin).to(self.caption_index.device)[self.caption_index]
        chosen = torch.isin(twin, self.everywhere).nonzero()[:, 0]
        if not len(chosen):
            return {}
        own, other = (self._pairs(self.row_of(of[chosen]), chosen) for of in (self.described, twin))
        known = dataset.caption_twin_kind
        kinds = ["any" if known is None else known[i] for i in self.caption_index[chosen].tolist()]
        figures = twin_accuracy(own, other, kinds)
        return figures if known is not None else {"twin_accuracy": figures["twin_accuracy"]}

    def _pairs(self, rows: Tensor, captions: Tensor) -> Tensor:
        """Scores (N,) of captions with images ``rows``, -1 = of another process; the same on all processes."""
        here = rows >= 0
        scores = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        scores[here] = self.scores.pairs(rows[here], captions[here], chunk_size=min(16, *self.blocks.values())).double()
        return all_reduce_sum(scores)


def _own_images(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that no process before this one has, in the order of their index; that index; and that of all images."""
    everywhere = all_gather_ragged(index)
    process = all_gather_ragged(torch.full_like(index, rank()))
    first = _first_places(everywhere)
    places = first[process[first] == rank()] - int((process < rank()).sum())
    return places, index[places], everywhere[first]


def _all_captions(texts: list[Ragged], places: Tensor) -> tuple[list[Ragged], Tensor]:
    """Captions of all processes in the order of their index, each once; and their places (T, 2)."""
    if is_distributed():
        texts, places = [text.gathered() for text in texts], all_gather_ragged(places)
    first = _first_places(places[:, 0])
    return [text.select(first) for text in texts], places[first]


def _rows(index: Tensor) -> Callable[[Tensor], Tensor]:
    """From a value to its place in ``index`` (N,), which has none twice; -1 where it is not there."""
    size = int(index.max()) + 1 if len(index) else 1
    places = index.new_full((size + 1,), -1)  # the last one for all that is not there
    places[index] = torch.arange(len(index), device=index.device)
    return lambda values: places[torch.where((values >= 0) & (values < size), values, size)]


def _first_places(index: Tensor) -> Tensor:
    """Where each different value of ``index`` (N,) stands for the first time, in the order of the values."""
    order = torch.argsort(index, stable=True)
    ordered = index[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]
