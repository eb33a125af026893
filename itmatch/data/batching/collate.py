"""Items to batches."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor

from itmatch.batch import Batch, Captions
from itmatch.data.batching.augmentation import SizeAugmentation
from itmatch.data.batching.padding import all_or_none, graph_of, padded_regions
from itmatch.data.batching.views import Chosen
from itmatch.data.items import CaptionItem, ImageItem
from itmatch.data.reading import read_regions
from itmatch.data.resident import region_rows
from itmatch.data.tokenizers.base import Tokenizer
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
        pin_memory: put features into page-locked memory, from which a GPU copies without waiting.
        resident: name of the :class:`~itmatch.data.ResidentRegions` that hold the features already: batches then carry
            :class:`~itmatch.data.RegionRows`. None = features are read.

    Example:
        >>> from itmatch.data.tokenizers.words import WordTokenizer
        >>> tokenizer = WordTokenizer(min_count=1)
        >>> tokenizer.fit(["a dog runs", "a dog"])
        >>> batch = Collator(tokenizer)([CaptionItem(0, 0, "a dog runs"), CaptionItem(1, 0, "a dog")])
        >>> batch.captions.mask.sum(1).tolist()
        [5, 4]
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        augmentation: SizeAugmentation | None = None,
        pin_memory: bool = False,
        resident: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.augmentation = augmentation
        self.pin_memory, self.resident = pin_memory, resident
        self._known: dict[str, array[int]] = {}  # a caption comes every epoch, and tokenising is half of the loading
        self._known_relations: dict[tuple[str, bytes], array[int]] = {}

    def __call__(self, items: Chosen[Any] | Sequence[Item], *, generator: torch.Generator | None = None) -> Batch:
        """The batch of some items of one kind: pairs, images or captions.

        Args:
            items: what goes into the batch; those that were only chosen are read here, all at once.
            generator: of the random numbers of the augmentation; None = torch's own.
        """
        if isinstance(items, Chosen):
            return self._of_chosen(items, generator)
        images = [
            item if isinstance(item, ImageItem) else item[0] for item in items if not isinstance(item, CaptionItem)
        ]
        captions = [
            item if isinstance(item, CaptionItem) else item[1] for item in items if not isinstance(item, ImageItem)
        ]
        if not items or len(images) not in (0, len(items)) or len(captions) not in (0, len(items)):
            raise ValueError("Collator: expected one or more items of one kind: pairs, images or captions")
        regions = padded_regions(images) if images else None
        if regions is not None and self.augmentation is not None:
            regions = self.augmentation.regions(regions, generator)
        spans = all_or_none(captions, "relations", "captions")
        return Batch(
            regions=regions,
            captions=self._captions([item.text for item in captions], spans, generator) if captions else None,
            image_index=torch.tensor([item.index for item in images]) if images else None,
            caption_index=torch.tensor([item.index for item in captions]) if captions else None,
            caption_image=torch.tensor([item.image for item in captions]) if captions else None,
        )

    def _of_chosen(self, chosen: Chosen[Any], generator: torch.Generator | None) -> Batch:
        split = chosen.view.dataset
        images, captions = chosen.view.places(chosen.indices)
        regions = texts = None
        if images is not None:
            keep = None if self.augmentation is None else partial(self.augmentation.kept, generator=generator)
            if self.resident is None:
                regions = read_regions(split, images, keep, pin_memory=self.pin_memory)
            else:
                regions = region_rows(split, images, keep, self.resident)
        if captions is not None:
            parsed = split.caption_relations
            spans = [] if parsed is None else [torch.from_numpy(parsed[caption]) for caption in captions]
            texts = self._captions([split.captions[caption] for caption in captions], spans, generator)
        return Batch(
            regions=regions,
            captions=texts,
            image_index=None if images is None else torch.tensor(images),
            caption_index=None if captions is None else torch.tensor(captions),
            caption_image=None if captions is None else torch.from_numpy(split.caption_image[captions]),
        )

    def of_epoch(self, seed: int, chosen: tuple[int, Chosen[Any]]) -> Batch:
        """The batch of some pairs of an epoch.

        What the augmentation draws depends on the seed, the epoch and the first caption alone.
        """
        epoch, pairs = chosen
        return self(pairs, generator=torch.Generator().manual_seed(mix_seed(seed, epoch, pairs.indices[0])))

    def _captions(self, texts: list[str], spans: list[Tensor], generator: torch.Generator | None) -> Captions:
        ids = [self._ids_of(text) for text in texts]
        graph = None
        if spans:
            parsed = zip(texts, spans, ids, strict=True)
            tables = [self._relations_of(text, table, len(row)) for text, table, row in parsed]
            places = torch.tensor([*chain(*tables)], dtype=torch.int64)
            graph = graph_of(places, [len(table) // 3 for table in tables])
        captions = self.tokenizer.padded(ids, texts, graph)
        if self.augmentation is not None:
            captions = self.augmentation.captions(captions, self.tokenizer, generator)
        return captions

    def _ids_of(self, text: str) -> array[int]:
        known = self._known.get(text)
        if known is None:
            known = array("i", self.tokenizer([text])[0])
            if len(self._known) < _KEPT_CAPTIONS:
                self._known[text] = known
        return known

    def _relations_of(self, text: str, spans: Tensor, length: int) -> array[int]:
        """Relations at characters (K, 3, 2) as those at tokens: subject, predicate and object behind one another."""
        if len(spans) == 0:
            return array("i")
        key = text, spans.numpy().tobytes()
        known = self._known_relations.get(key)
        if known is None:
            known = array("i", chain.from_iterable(_at_tokens(spans, self.tokenizer.spans([text])[0], length, text)))
            if len(self._known_relations) < _KEPT_CAPTIONS:
                self._known_relations[key] = known
        return known


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
