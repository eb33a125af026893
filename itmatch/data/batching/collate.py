"""Items to batches."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from itmatch.batch import Batch, Captions, Regions, SceneGraph
from itmatch.data.batching.augmentation import SizeAugmentation
from itmatch.data.items import CaptionItem, ImageItem
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.ops.masking import lengths_to_mask
from itmatch.ops.seeding import mix_seed

_KEPT_CAPTIONS = 1 << 18  # some 60 MB

Pair: TypeAlias = tuple[ImageItem, CaptionItem]
Item: TypeAlias = Pair | ImageItem | CaptionItem


class Collator:
    """Make a :class:`Batch` of items: tokenise, augment, pad to the longest of the batch.

    A batch of pairs has one image row per pair, so that an image may come twice; ``image_index`` tells.

    Relations of captions become the graph of :class:`~itmatch.batch.Captions`: a subject, predicate or object is the
    first token that shares a character with it. A relation whose subject or object has no token, because the caption
    was cut, or has the same one as the other, is left out.

    Args:
        tokenizer: captions to ids.
        augmentation: for training; None = leave items as they are.

    Example:
        >>> from itmatch.data.tokenizers.words import WordTokenizer
        >>> tokenizer = WordTokenizer(min_count=1)
        >>> tokenizer.fit(["a dog runs", "a dog"])
        >>> batch = Collator(tokenizer)([CaptionItem(0, 0, "a dog runs"), CaptionItem(1, 0, "a dog")])
        >>> batch.captions.mask.sum(1).tolist()
        [5, 4]
    """

    def __init__(self, tokenizer: Tokenizer, *, augmentation: SizeAugmentation | None = None) -> None:
        self.tokenizer = tokenizer
        self.augmentation = augmentation
        self._known: dict[str, array[int]] = {}  # a caption comes every epoch, and tokenising is half of the loading
        self._known_relations: dict[tuple[str, bytes], array[int]] = {}

    def __call__(self, items: Sequence[Item], *, generator: torch.Generator | None = None) -> Batch:
        """The batch of some items of one kind: pairs, images or captions.

        Args:
            items: what goes into the batch.
            generator: of the random numbers of the augmentation; None = torch's own.
        """
        images = [
            item if isinstance(item, ImageItem) else item[0] for item in items if not isinstance(item, CaptionItem)
        ]
        captions = [
            item if isinstance(item, CaptionItem) else item[1] for item in items if not isinstance(item, ImageItem)
        ]
        if not items or len(images) not in (0, len(items)) or len(captions) not in (0, len(items)):
            raise ValueError("Collator: expected one or more items of one kind: pairs, images or captions")
        return Batch(
            regions=self._regions(images, generator) if images else None,
            captions=self._captions(captions, generator) if captions else None,
            image_index=torch.tensor([item.index for item in images]) if images else None,
            caption_index=torch.tensor([item.index for item in captions]) if captions else None,
            caption_image=torch.tensor([item.image for item in captions]) if captions else None,
        )

    def of_epoch(self, seed: int, items: Sequence[tuple[int, Pair]]) -> Batch:
        """The batch of some pairs, each with the number of the epoch.

        What the augmentation draws depends on the seed, the epoch and the first caption alone.
        """
        epoch, (_, first) = items[0]
        generator = torch.Generator().manual_seed(mix_seed(seed, epoch, first.index))
        return self([pair for _, pair in items], generator=generator)

    def _regions(self, items: list[ImageItem], generator: torch.Generator | None) -> Regions:
        if self.augmentation is not None:
            items = [self.augmentation.regions(item, generator) for item in items]
        features = [item.features for item in items]
        graph = None
        if relations := _all_or_none(items, "relations"):
            scores = _all_or_none(items, "relation_scores")
            graph = _graph(
                torch.cat(relations), [len(rows) for rows in relations], torch.cat(scores) if scores else None
            )
        return Regions(
            pad_sequence(features, batch_first=True),
            lengths_to_mask(torch.tensor([len(rows) for rows in features])),
            boxes=_stacked(_all_or_none(items, "boxes")),
            labels=_stacked(_all_or_none(items, "labels"), -1),
            graph=graph,
        )

    def _captions(self, items: list[CaptionItem], generator: torch.Generator | None) -> Captions:
        ids = [self._ids_of(item.text) for item in items]
        graph = None
        if spans := _all_or_none(items, "relations", "captions"):
            parsed = zip(items, spans, ids, strict=True)
            relations = [self._relations_of(item.text, table, len(row)) for item, table, row in parsed]
            if self.augmentation is not None:
                pairs = zip(ids, relations, strict=True)
                both = [self.augmentation.related_tokens(*pair, self.tokenizer, generator) for pair in pairs]
                ids, relations = [row for row, _ in both], [table for _, table in both]
            graph = _graph(torch.tensor([*chain(*relations)], dtype=torch.int64), [len(table) for table in relations])
        elif self.augmentation is not None:
            ids = [self.augmentation.tokens(row, self.tokenizer, generator) for row in ids]
        return self.tokenizer.padded(ids, [item.text for item in items], graph)

    def _ids_of(self, text: str) -> list[int]:
        known = self._known.get(text)
        if known is None:
            known = array("i", self.tokenizer([text])[0])
            if len(self._known) < _KEPT_CAPTIONS:
                self._known[text] = known
        return known.tolist()

    def _relations_of(self, text: str, spans: Tensor, length: int) -> list[tuple[int, int, int]]:
        """Relations at characters (K, 3, 2) as relations at tokens."""
        if len(spans) == 0:
            return []
        key = text, spans.numpy().tobytes()
        known = self._known_relations.get(key)
        if known is None:
            known = array("i", chain.from_iterable(_at_tokens(spans, self.tokenizer.spans([text])[0], length, text)))
            if len(self._known_relations) < _KEPT_CAPTIONS:
                self._known_relations[key] = known
        return list(zip(known[::3], known[1::3], known[2::3], strict=True))


def _stacked(rows: list[Tensor], value: float = 0) -> Tensor | None:
    """Tensors of different first sizes, stacked and filled up with a value; None where there are none."""
    return pad_sequence(rows, batch_first=True, padding_value=value) if rows else None


def _at_tokens(
    relations: Tensor, tokens: list[tuple[int, int]], length: int, text: str
) -> Iterator[tuple[int, int, int]]:
    if len(tokens) != length:
        raise ValueError(f"caption {text!r}: {length} tokens, and spans of {len(tokens)} (Tokenizer.spans)")
    for spans in relations.tolist():
        subject, predicate, other = (
            next((place for place, (first, last) in enumerate(tokens) if max(first, start) < min(last, end)), -1)
            for start, end in spans
        )
        if subject >= 0 and other >= 0 and subject != other:
            yield subject, predicate, other


def _all_or_none(items: Sequence[ImageItem | CaptionItem], field: str, kind: str = "images") -> list[Tensor]:
    found = [value for item in items if (value := getattr(item, field)) is not None]
    if len(found) not in (0, len(items)):
        raise ValueError(f"Collator: {len(found)} of {len(items)} {kind} have {field}, expected all or none")
    return found


def _graph(table: Tensor, counts: list[int], scores: Tensor | None = None) -> SceneGraph:
    """A graph of relations (E, 3), so many in each row: from, what, to."""
    table = table.view(-1, 3)
    return SceneGraph(
        edge_index=table[:, ::2].T.contiguous(),
        row=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        num_rows=len(counts),
        predicate=table[:, 1].contiguous(),
        confidence=scores,
    )
