"""Recalls, median and mean ranks as a metric of torchmetrics, which gathers ranks over processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from itmatch.evaluation.ranks import RetrievalRanks
from itmatch.evaluation.recalls.figures import check_ks, check_ranks, retrieval_metrics
from itmatch.ops.arrays import ArrayLike, as_tensor

_UNNUMBERED = -1


class RetrievalMetrics(Metric):
    """The figures of :func:`~itmatch.evaluation.retrieval_metrics` of queries that are spread over processes.

    Each process ranks its share of the images and of the captions against **all** candidates and calls
    :meth:`update` with the ranks. Numbering the queries (``image_index``, ``caption_index``) makes one that a
    distributed sampler repeated count once; if its ranks differ, the worst counts. Queries without a number count
    every time. With a full score matrix on one process: ``metric(retrieval_ranks(scores, caption_image_index))``.

    ``compute`` returns a dict of scalar tensors, under the names of :func:`~itmatch.evaluation.retrieval_metrics`.

    Args:
        ks: the K of R@K.
        kwargs: options of ``torchmetrics.Metric``.

    Example:
        >>> metric = RetrievalMetrics()
        >>> image, captions = torch.tensor([5]), torch.tensor([8, 9])
        >>> metric.update(RetrievalRanks(torch.tensor([0]), torch.tensor([0, 3])), image, captions)
        >>> metric.update(RetrievalRanks(torch.tensor([0]), torch.tensor([3])), image, captions[1:])  # a repetition
        >>> metric.compute()["t2i_r1"]
        tensor(50.)
    """

    is_differentiable = False
    full_state_update = False

    image_ranks: list[Tensor]
    image_index: list[Tensor]
    caption_ranks: list[Tensor]
    caption_index: list[Tensor]

    def __init__(self, ks: Sequence[int] = (1, 5, 10), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ks = tuple(check_ks(ks))
        for name in ("image_ranks", "image_index", "caption_ranks", "caption_index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self, ranks: RetrievalRanks, image_index: ArrayLike | None = None, caption_index: ArrayLike | None = None
    ) -> None:
        """Add queries.

        Args:
            ranks: ranks (N,) of some images and (M,) of some captions; either may be empty.
            image_index: (N,) place of each image in the dataset, or None.
            caption_index: (M,) place of each caption in the dataset, or None.
        """
        for direction, values, index, ranks_state, index_state in (
            ("image", ranks.image_to_text, image_index, self.image_ranks, self.image_index),
            ("caption", ranks.text_to_image, caption_index, self.caption_ranks, self.caption_index),
        ):
            values = check_ranks(direction, values).to(self.device)
            ranks_state.append(values)
            index_state.append(_check_numbers(f"{direction}_index", index, values))

    def compute(self) -> dict[str, Tensor]:
        """The figures of all queries that were added, on all processes."""
        metrics = retrieval_metrics(self._joined(), self.ks)
        return {name: torch.tensor(value, device=self.device) for name, value in metrics.items()}

    def ranks(self) -> RetrievalRanks:
        """The ranks of all queries, on all processes: numbered ones once, in the order of their numbers, then others.

        Every process has to call it.
        """
        with self.sync_context(should_sync=self._to_sync, should_unsync=self._should_unsync):
            return self._joined()

    def _joined(self) -> RetrievalRanks:
        return RetrievalRanks(
            _once(dim_zero_cat(self.image_ranks), dim_zero_cat(self.image_index)),
            _once(dim_zero_cat(self.caption_ranks), dim_zero_cat(self.caption_index)),
        )

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the queries of all processes."""
        # A process that saw nothing would send an empty float tensor, and the gathering of mixed dtypes fails.
        for state in (self.image_ranks, self.image_index, self.caption_ranks, self.caption_index):
            if isinstance(state, list) and not state:
                state.append(torch.empty(0, dtype=torch.int64, device=self.device))
        super().sync(*args, **kwargs)

    def set_dtype(self, dst_type: str | torch.dtype) -> RetrievalMetrics:
        """Does nothing: ranks and indices are whole numbers, which half precision cannot hold."""
        return self


def _once(ranks: Tensor, index: Tensor) -> Tensor:
    numbered = index != _UNNUMBERED
    items, inverse = torch.unique(index[numbered], return_inverse=True)
    worst = ranks.new_full(items.shape, -1).scatter_reduce(0, inverse, ranks[numbered], "amax")
    return torch.cat([worst, ranks[~numbered]])


def _check_numbers(name: str, given: ArrayLike | None, ranks: Tensor) -> Tensor:
    if given is None:
        return torch.full_like(ranks, _UNNUMBERED)
    index = as_tensor(name, given)
    if index.shape != ranks.shape or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"{name}: {tuple(index.shape)} {index.dtype}, expected {tuple(ranks.shape)} integers")
    if len(index) and int(index.min()) < 0:
        raise ValueError(f"{name}: {int(index.min())}, expected 0 or more")
    return index.detach().to(ranks.device, torch.int64)
