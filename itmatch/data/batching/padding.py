"""Items that were read one by one, side by side in a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from itmatch.batch import Regions, SceneGraph
from itmatch.data.items import CaptionItem, ImageItem
from itmatch.ops.masking import lengths_to_mask


def padded_regions(items: Sequence[ImageItem]) -> Regions:
    """The regions of images, padded to the longest.

    Raises:
        ValueError: some of the images have boxes, labels or relations and some have none.
    """
    features = [item.features for item in items]
    graph = None
    if relations := all_or_none(items, "relations"):
        scores = all_or_none(items, "relation_scores")
        graph = graph_of(torch.cat(relations), [len(rows) for rows in relations], torch.cat(scores) if scores else None)
    return Regions(
        pad_sequence(features, batch_first=True),
        lengths_to_mask(torch.tensor([len(rows) for rows in features])),
        boxes=_stacked(all_or_none(items, "boxes")),
        labels=_stacked(all_or_none(items, "labels"), -1),
        graph=graph,
    )


def all_or_none(items: Sequence[ImageItem | CaptionItem], field: str, kind: str = "images") -> list[Tensor]:
    """What all of the items have; nothing where none has it.

    Raises:
        ValueError: some have it.
    """
    found = [value for item in items if (value := getattr(item, field)) is not None]
    if len(found) not in (0, len(items)):
        raise ValueError(f"Collator: {len(found)} of {len(items)} {kind} have {field}, expected all or none")
    return found


def graph_of(table: Tensor, counts: list[int], scores: Tensor | None = None) -> SceneGraph:
    """A graph of relations (E, 3), so many in each row: from, what, to."""
    table = table.view(-1, 3)
    return SceneGraph(
        edge_index=table[:, ::2].T.contiguous(),
        row=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        num_rows=len(counts),
        predicate=table[:, 1].contiguous(),
        confidence=scores,
    )


def _stacked(rows: list[Tensor], value: float = 0) -> Tensor | None:
    """Tensors of different first sizes, stacked and filled up with a value; None where there are none."""
    return pad_sequence(rows, batch_first=True, padding_value=value) if rows else None
