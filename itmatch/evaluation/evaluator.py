"""From fragments that arrive in batches, on one or many processes, to figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from itmatch.batch import Batch, Fragments
from itmatch.evaluation.protocols import EvaluationProtocol, ScoredSplit
from itmatch.evaluation.ranks import RetrievalRanks, streamed_ranks
from itmatch.evaluation.recalls import RetrievalMetrics, retrieval_metrics
from itmatch.evaluation.relevance import Relevance, RetrievedHits, streamed_hits
from itmatch.evaluation.scores import FragmentScores
from itmatch.evaluation.twins import twin_accuracy
from itmatch.ops.collectives import all_gather_ragged, all_reduce_sum, is_distributed, rank
from itmatch.ops.ragged import Ragged

_LARGE = 64 << 20  # bytes; what is larger than 32 MB the C library gives back to the system once it is freed


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


class Evaluator:
    """Collects the fragments of a split and ranks them; each image and each caption counts once.

    On several processes each keeps the images that it has encoded, all captions go to every process, and each scores
    its images with them. What comes out does not depend on the number of processes. A distributed sampler repeats items
    to make the shares even; they are told by their index and dropped.

    Fragments are kept without their padding: (regions of the process's images + words of all captions) x D numbers.

    Args:
        similarity: two Fragments -> scores (I, T); or a model: the similarity counts that it has when the figures are
            computed. Several, each with fragments of its own, are an ensemble, whose score is the mean of theirs.
        fragment_dtype: what fragments are kept in until they are scored, in float32 at least; None = as they come.

    Attributes:
        ranks: of all images and captions, if the last :meth:`compute` needed them.
        caption_image: (T,), the image of each caption, by places among the images that were added.
        image_ids: of these images.
        captions: the texts, where a dataset was given.
    """

    def __init__(self, similarity: nn.Module | Sequence[nn.Module], fragment_dtype: torch.dtype | None = None) -> None:
        self.ranks: RetrievalRanks | None = None
        self.caption_image: Tensor | None = None
        self.image_ids: list[str] = []
        self.captions: list[str] = []
        self._members = [similarity] if isinstance(similarity, nn.Module) else list(similarity)
        self.fragment_dtype = fragment_dtype
        self.reset()

    @property
    def similarities(self) -> list[nn.Module]:
        """As they are now."""
        return [getattr(member, "similarity", member) for member in self._members]

    def reset(self) -> None:
        """Forget everything that was added."""
        self._images: list[list[Ragged]] = [[] for _ in self._members]
        self._captions: list[list[Ragged]] = [[] for _ in self._members]
        self._image_places: list[Tensor] = []
        self._caption_places: list[Tensor] = []

    def add(self, batch: Batch) -> None:
        """Encode the images and the captions of a batch, where the evaluator was given models, and add them."""
        members: list[Any] = self._members
        if batch.regions is not None and batch.image_index is not None:
            self.add_images([member.image_encoder(batch.regions) for member in members], batch.image_index)
        if batch.captions is not None and batch.caption_index is not None and batch.caption_image is not None:
            encoded = [member.text_encoder(batch.captions) for member in members]
            self.add_captions(encoded, batch.caption_index, batch.caption_image)

    def add_images(self, fragments: Fragments | Sequence[Fragments], index: Tensor) -> None:
        """Add images, as each similarity's model encodes them, with their places (N,) in the dataset."""
        self._keep(self._images, fragments)
        self._image_places.append(index)

    def add_captions(self, fragments: Fragments | Sequence[Fragments], index: Tensor, image: Tensor) -> None:
        """Add encoded captions with their places (N,), and the places (N,) of the images they describe."""
        self._keep(self._captions, fragments)
        self._caption_places.append(torch.stack((index, image), 1))

    def _keep(self, kept: list[list[Ragged]], fragments: Fragments | Sequence[Fragments]) -> None:
        encoded = [fragments] if isinstance(fragments, Fragments) else fragments
        for parts, part in zip(kept, encoded, strict=True):
            parts.append(Ragged.of(part.detach(), self.fragment_dtype))
            small = list(takewhile(lambda kept: kept.values.nbytes < _LARGE, reversed(parts)))[::-1]
            if sum(kept.values.nbytes for kept in small) >= _LARGE:
                del parts[len(parts) - len(small) :]
                parts.append(Ragged.cat(small))

    @torch.no_grad()
    def compute(
        self, dataset: EvaluatedSplit | None = None, protocol: EvaluationProtocol | None = None
    ) -> dict[str, float]:
        """Figures of what was added, in percent, and forget it; with twins in the dataset also the twin accuracies.

        Every process has to call it, and gets the same.

        Args:
            dataset: knows the images' ids, and twins.
            protocol: what to measure; None, or one that gives no ``rsum``: recalls of the whole split.

        Raises:
            ValueError: no image, no caption, or no caption of any image was added; a score is not finite. Where only
                one process raises, the others wait for it until the launcher stops them.
        """
        if not self._image_places or not self._caption_places:
            raise ValueError(
                f"{len(self._image_places)} batches of images and {len(self._caption_places)} of captions: need both"
            )
        split = _Collected(self, dataset)
        self.reset()
        found = {} if protocol is None else protocol.measure(split)
        if "rsum" not in found:
            found = retrieval_metrics(split.ranks()) | found
        self.ranks, self.caption_image, self.image_ids = split.whole, split.caption_image, list(split.image_ids)
        self.captions = [] if dataset is None else [dataset.captions[i] for i in split.caption_index.tolist()]
        return found | split.twin_accuracies(dataset)


class _Collected(ScoredSplit):
    """What an evaluator has collected; images in the order of their places in the dataset, captions too."""

    def __init__(self, evaluator: Evaluator, dataset: EvaluatedSplit | None) -> None:
        image_places, caption_places = torch.cat(evaluator._image_places), torch.cat(evaluator._caption_places)
        own, self.image_index, everywhere = _own_images(image_places)
        images = [Ragged.cat(parts).select(own) for parts in evaluator._images]
        texts, places = _all_captions([Ragged.cat(parts) for parts in evaluator._captions], caption_places)
        known = torch.isin(places[:, 1], everywhere)
        if not bool(known.any()):
            raise ValueError("no caption describes any of the images")
        if not bool(known.all()):
            chosen = known.nonzero()[:, 0]
            texts, places = [text.select(chosen) for text in texts], places[chosen]
        self.caption_index, self.described = places.unbind(1)
        self.everywhere = everywhere
        self.row_of = _rows(self.image_index)
        self.members = list(zip(evaluator.similarities, images, texts, strict=True))
        self.scores = FragmentScores(self.members)
        place = _rows(everywhere)  # places among the images that were added; in most cases that of the dataset
        ids = [str(i) for i in everywhere.tolist()]
        if dataset is not None:
            ids = [dataset.image_ids[i] for i in everywhere.tolist()]
        self.whole: RetrievalRanks | None = None
        super().__init__(place(self.described), len(everywhere), ids)

    def ranks(self, images: slice = slice(None)) -> RetrievalRanks:
        """Ranks among some consecutive images and their captions alone, on every process."""
        chosen = self.everywhere[images]
        scores, rows, captions = self._among(chosen)
        caption_row = _rows(self.image_index[rows])(self.described[captions])
        found = streamed_ranks(scores, caption_row, len(rows), across_processes=is_distributed())
        metric = RetrievalMetrics().to(found.image_to_text.device)
        metric.update(found, self.image_index[rows], self.caption_index[captions])
        ranks = metric.ranks()
        self.whole = ranks if len(chosen) == self.num_images else self.whole
        return ranks

    def _among(self, chosen: Tensor) -> tuple[FragmentScores, Tensor, Tensor]:
        """Some images and their captions alone: their scores, and the rows of both that are here."""
        rows = torch.isin(self.image_index, chosen).nonzero()[:, 0]
        captions = torch.isin(self.described, chosen).nonzero()[:, 0]
        if len(chosen) == self.num_images:
            return self.scores, rows, captions
        return FragmentScores([(s, i.select(rows), t.select(captions)) for s, i, t in self.members]), rows, captions

    def hits(
        self, relevance: Relevance, places: int = 10, images: Tensor | None = None
    ) -> tuple[RetrievedHits, RetrievedHits]:
        """The first places of the rankings of all queries, on every process; by places among the images added."""
        chosen = self.everywhere if images is None else self.everywhere[images.to(self.everywhere.device)]
        scores, rows, captions = self._among(chosen)
        of_images, of_captions = streamed_hits(
            scores,
            _rows(self.everywhere)(self.image_index[rows]),
            captions,
            relevance,
            places=places,
            across_processes=is_distributed(),
        )
        return RetrievedHits(*(all_gather_ragged(part) for part in of_images)), of_captions

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
        scores[here] = self.scores.pairs(rows[here], captions[here]).double()
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
