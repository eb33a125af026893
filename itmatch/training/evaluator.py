"""From fragments that arrive in batches, on one or many processes, to recalls."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.data import ImageTextDataset
from itmatch.metrics import retrieval_metrics, twin_accuracy
from itmatch.models import pair_scores, rank_fragments
from itmatch.ops.collectives import all_gather_ragged, is_distributed


class Evaluator:
    """Collects the fragments of a split and ranks them; each image and each caption counts once.

    A distributed sampler repeats items to make the shares even; they are told by their index and dropped.

    Args:
        similarity: two Fragments -> scores (I, T).
    """

    def __init__(self, similarity: nn.Module) -> None:
        self.similarity = similarity
        self.reset()

    def reset(self) -> None:
        """Forget everything that was added."""
        self._images: list[tuple[Fragments, Tensor]] = []
        self._captions: list[tuple[Fragments, Tensor]] = []

    def add_images(self, fragments: Fragments, index: Tensor) -> None:
        """Add encoded images with their places (N,) in the dataset."""
        self._images.append((fragments, index))

    def add_captions(self, fragments: Fragments, index: Tensor, image: Tensor) -> None:
        """Add encoded captions with their places (N,), and the places (N,) of the images they describe."""
        self._captions.append((fragments, torch.stack((index, image), 1)))

    def compute(self, dataset: ImageTextDataset | None = None) -> dict[str, float]:
        """Recalls of what was added, in percent, and forget it; with twins in the dataset also the twin accuracies.

        Raises:
            ValueError: no image, no caption, or no caption of any image was added; a score is not finite.
        """
        if not self._images or not self._captions:
            raise ValueError(f"{len(self._images)} batches of images and {len(self._captions)} of captions: need both")
        images, captions = self._images, self._captions
        self.reset()  # else they would stay in memory until the next evaluation
        image, image_index = _gather(images)
        text, places = _gather(captions)  # places (T, 2): of the caption, of its image
        row_of = _inverse(image_index)
        described = places[:, 1]
        known = (described < len(row_of)) & (row_of[described.clamp(max=len(row_of) - 1)] >= 0)
        if not bool(known.any()):
            raise ValueError("no caption describes any of the images")
        if not bool(known.all()):
            text, places, described = text[known], places[known], described[known]
        caption_index, caption_row = places[:, 0], row_of[described]
        metrics = retrieval_metrics(rank_fragments(self.similarity, image, text, caption_row))
        if dataset is not None and dataset.caption_twin is not None:
            metrics.update(self._twins(dataset, image, text, row_of, caption_index, caption_row))
        return metrics

    def _twins(
        self,
        dataset: ImageTextDataset,
        image: Fragments,
        text: Fragments,
        row_of: Tensor,
        caption_index: Tensor,
        caption_row: Tensor,
    ) -> dict[str, float]:
        assert dataset.caption_twin is not None
        assert dataset.caption_twin_kind is not None
        twin = torch.as_tensor(dataset.caption_twin).to(caption_index.device)[caption_index]
        twin_row = torch.where((twin >= 0) & (twin < len(row_of)), row_of[twin.clamp(0, len(row_of) - 1)], -1)
        captions = (twin_row >= 0).nonzero()[:, 0]
        if len(captions) == 0:
            return {}
        own = pair_scores(self.similarity, image, text, caption_row[captions], captions)
        other = pair_scores(self.similarity, image, text, twin_row[captions], captions)
        kinds = [dataset.caption_twin_kind[i] for i in caption_index[captions].tolist()]
        return twin_accuracy(own, other, kinds)


def _gather(parts: list[tuple[Fragments, Tensor]]) -> tuple[Fragments, Tensor]:
    """All processes' fragments in the order of their index, each index once; an index may have further columns."""
    fragments, index = Fragments.cat([part for part, _ in parts]), torch.cat([places for _, places in parts])
    parts.clear()  # the parts are as large as the whole
    if is_distributed():
        fragments, index = _gather_padded(fragments), all_gather_ragged(index)
    order = _first_places(index if index.ndim == 1 else index[:, 0])
    if torch.equal(order, torch.arange(len(index), device=order.device)):  # one process: no need for a copy
        return fragments, index
    return fragments[order], index[order]


def _gather_padded(fragments: Fragments) -> Fragments:
    """The rows of all processes, padded to the longest."""
    length = fragments.mask.shape[1]
    extra = int(all_gather_ragged(torch.tensor([length], device=fragments.mask.device)).max()) - length
    features = all_gather_ragged(nn.functional.pad(fragments.features, (0, 0, 0, extra)))
    mask = all_gather_ragged(nn.functional.pad(fragments.mask, (0, extra)))
    pooled = None if fragments.pooled is None else all_gather_ragged(fragments.pooled)
    is_relation = fragments.is_relation
    if is_relation is not None:
        is_relation = all_gather_ragged(nn.functional.pad(is_relation, (0, extra)))
    return Fragments.unchecked(features, mask, pooled, is_relation)


def _first_places(index: Tensor) -> Tensor:
    """Where each different value of ``index`` stands for the first time, in the order of the values."""
    order = torch.argsort(index, stable=True)
    ordered = index[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]


def _inverse(index: Tensor) -> Tensor:
    """(max + 1,) place of each value in ``index``, -1 where there is none."""
    places = index.new_full((int(index.max()) + 1,), -1)
    places[index] = torch.arange(len(index), device=index.device)
    return places
