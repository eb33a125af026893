"""From fragments that arrive in batches, on one or many processes, to figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from itmatch.batch import Batch, Fragments
from itmatch.evaluation.collected import CollectedSplit, EvaluatedSplit
from itmatch.evaluation.memory import GRANTED, byte_count
from itmatch.evaluation.protocols import EvaluationProtocol, SeveralProtocols
from itmatch.evaluation.ranks import RetrievalRanks
from itmatch.evaluation.recalls.figures import retrieval_metrics
from itmatch.evaluation.top_k import TopK
from itmatch.ops.ragged import Ragged

_LARGE = 64 << 20  # bytes; what is larger than 32 MB the C library gives back to the system once it is freed


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
        memory: bytes that scoring may take beside the fragments, or a size such as ``"1GiB"``. Blocks of images and
            captions are made to fit: what they take is measured, so any similarity will do. Where more than one thing
            is asked for, half of it may hold all scores, so that they are computed once.

    Attributes:
        ranks: of all images and captions, if the last :meth:`compute` needed them.
        top: the best captions of all images and the best images of all captions, if it was asked for them: by places
            among the images that were added, and among ``captions``.
        caption_image: (T,), the image of each caption, by places among the images that were added.
        caption_index: (T,), the places of the captions in the dataset.
        image_ids: of these images.
        captions: the texts, where a dataset was given.
    """

    def __init__(
        self,
        similarity: nn.Module | Sequence[nn.Module],
        fragment_dtype: torch.dtype | None = None,
        *,
        memory: int | str = GRANTED,
    ) -> None:
        self.memory = byte_count("memory", memory)
        self.ranks: RetrievalRanks | None = None
        self.top: tuple[TopK, TopK] | None = None
        self.caption_image: Tensor | None = None
        self.caption_index: Tensor | None = None
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
        self,
        dataset: EvaluatedSplit | None = None,
        protocol: EvaluationProtocol | None = None,
        *,
        top: int | None = None,
    ) -> dict[str, float]:
        """Figures of what was added, in percent, and forget it; with twins in the dataset also the twin accuracies.

        Every process has to call it, and gets the same.

        Args:
            dataset: knows the images' ids, and twins.
            protocol: what to measure; None, or one that gives no ``rsum``: recalls of the whole split.
            top: how many of the best candidates of every query to keep as :attr:`top`.

        Raises:
            ValueError: no image, no caption, or no caption of any image was added; a score is not finite. Where only
                one process raises, the others wait for it until the launcher stops them.
        """
        split = self._collected(dataset, hold=top is not None or isinstance(protocol, SeveralProtocols))
        found = {} if protocol is None else protocol.measure(split)
        if "rsum" not in found:
            found = retrieval_metrics(split.ranks()) | found
        self.ranks = split.whole
        self.top = None if top is None else split.top_k(top)
        return found | split.twin_accuracies(dataset)

    @torch.no_grad()
    def find(self, dataset: EvaluatedSplit | None, k: int) -> tuple[TopK, TopK]:
        """The k best captions of all images and images of all captions (:attr:`top`), and forget what was added.

        Every process has to call it, and gets the same.
        """
        self.ranks = None
        self.top = self._collected(dataset, hold=False).top_k(k)
        return self.top

    def _collected(self, dataset: EvaluatedSplit | None, *, hold: bool) -> CollectedSplit:
        """What was added, as a split; it is forgotten here."""
        if not self._image_places or not self._caption_places:
            raise ValueError(
                f"{len(self._image_places)} batches of images and {len(self._caption_places)} of captions: need both"
            )
        images = [Ragged.cat(parts) for parts in self._images], torch.cat(self._image_places)
        captions = [Ragged.cat(parts) for parts in self._captions], torch.cat(self._caption_places)
        split = CollectedSplit(self.similarities, images, captions, dataset, memory=self.memory, hold=hold)
        self.reset()
        self.caption_image, self.caption_index = split.caption_image, split.caption_index
        self.image_ids = list(split.image_ids)
        self.captions = [] if dataset is None else [dataset.captions[i] for i in split.caption_index.tolist()]
        return split
