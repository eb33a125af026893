"""From fragments that arrive in batches, on one or many processes, to recalls."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.data import ImageTextDataset
from itmatch.metrics import RetrievalMetrics, RetrievalRanks, twin_accuracy
from itmatch.models import pair_scores, rank_fragments
from itmatch.ops.collectives import all_gather_ragged, all_reduce_sum, is_distributed, rank
from itmatch.ops.packing import PackedFragments, first_places


class Evaluator:
    """Collects the fragments of a split and ranks them; each image and each caption counts once.

    On several processes each keeps the images that it has encoded, all captions go to every process, and each scores
    its images with them. What comes out does not depend on the number of processes. A distributed sampler repeats items
    to make the shares even; they are told by their index and dropped.

    Fragments are kept without their padding: (regions of the process's images + words of all captions) x D numbers.

    Args:
        similarity: two Fragments -> scores (I, T).
        fragment_dtype: what fragments are kept in until they are scored, in float32 at least; None = as they come.
    """

    def __init__(self, similarity: nn.Module, fragment_dtype: torch.dtype | None = None) -> None:
        self.similarity = similarity
        self.fragment_dtype = fragment_dtype
        self.reset()

    def reset(self) -> None:
        """Forget everything that was added."""
        self._images: list[PackedFragments] = []
        self._captions: list[PackedFragments] = []
        self._image_places: list[Tensor] = []
        self._caption_places: list[Tensor] = []

    def add_images(self, fragments: Fragments, index: Tensor) -> None:
        """Add encoded images with their places (N,) in the dataset."""
        self._images.append(PackedFragments.pack(fragments.detach(), self.fragment_dtype))
        self._image_places.append(index)

    def add_captions(self, fragments: Fragments, index: Tensor, image: Tensor) -> None:
        """Add encoded captions with their places (N,), and the places (N,) of the images they describe."""
        self._captions.append(PackedFragments.pack(fragments.detach(), self.fragment_dtype))
        self._caption_places.append(torch.stack((index, image), 1))

    @torch.no_grad()
    def compute(self, dataset: ImageTextDataset | None = None) -> dict[str, float]:
        """Recalls of what was added, in percent, and forget it; with twins in the dataset also the twin accuracies.

        Every process has to call it, and gets the same.

        Raises:
            ValueError: no image, no caption, or no caption of any image was added; a score is not finite. Where only
                one process raises, the others wait for it until the launcher stops them.
        """
        if not self._images or not self._captions:
            raise ValueError(f"{len(self._images)} batches of images and {len(self._captions)} of captions: need both")
        image, image_index, everywhere = _own_images(PackedFragments.cat(self._images), torch.cat(self._image_places))
        text, places = _all_captions(PackedFragments.cat(self._captions), torch.cat(self._caption_places))
        self.reset()
        known = torch.isin(places[:, 1], everywhere)
        if not bool(known.any()):
            raise ValueError("no caption describes any of the images")
        if not bool(known.all()):
            text, places = text.select(known.nonzero()[:, 0]), places[known]
        caption_index, described = places.unbind(1)
        row_of = _rows(image_index)
        caption_row = row_of(described)
        ranks = rank_fragments(self.similarity, image, text, caption_row, across_processes=is_distributed())
        own = caption_row >= 0  # each process answers for the captions of its own images
        metrics = RetrievalMetrics().to(places.device)
        metrics.update(RetrievalRanks(ranks.image_to_text, ranks.text_to_image[own]), image_index, caption_index[own])
        found = {name: float(value) for name, value in metrics.compute().items()}
        if dataset is not None and dataset.caption_twin is not None:
            twin = torch.as_tensor(dataset.caption_twin).to(caption_index.device)[caption_index]
            chosen = torch.isin(twin, everywhere).nonzero()[:, 0]
            if len(chosen):
                assert dataset.caption_twin_kind is not None
                kinds = [dataset.caption_twin_kind[i] for i in caption_index[chosen].tolist()]
                own_score = self._pairs(image, text, row_of(described[chosen]), chosen)
                twin_score = self._pairs(image, text, row_of(twin[chosen]), chosen)
                found.update(twin_accuracy(own_score, twin_score, kinds))
        return found

    def _pairs(self, image: PackedFragments, text: PackedFragments, rows: Tensor, captions: Tensor) -> Tensor:
        """Scores (N,) of captions with images ``rows``, -1 = of another process; the same on all processes."""
        here = rows >= 0
        scores = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        scores[here] = pair_scores(self.similarity, image, text, rows[here], captions[here]).double()
        return all_reduce_sum(scores)


def _own_images(image: PackedFragments, index: Tensor) -> tuple[PackedFragments, Tensor, Tensor]:
    """Images that no process before this one has, in the order of their index; that index; and that of all images."""
    everywhere = all_gather_ragged(index)
    process = all_gather_ragged(torch.full_like(index, rank()))
    first = first_places(everywhere)
    places = first[process[first] == rank()] - int((process < rank()).sum())
    return image.select(places), index[places], everywhere[first]


def _all_captions(text: PackedFragments, places: Tensor) -> tuple[PackedFragments, Tensor]:
    """Captions of all processes in the order of their index, each once; and their places (T, 2)."""
    if is_distributed():
        text, places = text.gathered(), all_gather_ragged(places)
    first = first_places(places[:, 0])
    return text.select(first), places[first]


def _rows(index: Tensor) -> Callable[[Tensor], Tensor]:
    """From a value to its place in ``index`` (N,), which has none twice; -1 where it is not there."""
    size = int(index.max()) + 1 if len(index) else 1
    places = index.new_full((size + 1,), -1)  # the last one for all that is not there
    places[index] = torch.arange(len(index), device=index.device)
    return lambda values: places[torch.where((values >= 0) & (values < size), values, size)]
