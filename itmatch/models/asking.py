"""Named images and captions of a test, encoded once each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset

from itmatch.batch import Fragments
from itmatch.data import CaptionRelations, Collator, ImageDataset, ImageTextSplit, Tokenizer
from itmatch.data.choices.rows import Triples
from itmatch.data.items import CaptionItem
from itmatch.formats.messages import shown
from itmatch.models.matching import MatchingModel

_NAMED = 3  # images that an error names


def find_rows(split: ImageTextSplit, names: Sequence[str]) -> dict[str, int | None]:
    """The place in the split of each image: by its id, or else by the last part of a path, with or without ending.

    None where it is not in the split.
    """
    known: dict[str, int] = {}
    for shorten in (str, _last_part, _stem):
        for row, name in enumerate(split.image_ids):
            known.setdefault(shorten(name), row)
    return {name: known.get(name, known.get(_last_part(name), known.get(_stem(name)))) for name in names}


def rows_of(split: ImageTextSplit, names: Sequence[str], what: str) -> dict[str, int]:
    """The same of images that are all in the split.

    Args:
        split: its own captions are not read.
        names: of the images.
        what: has these images, for the message.

    Raises:
        ValueError: an image is not in the split.
    """
    found = find_rows(split, names)
    missing = [name for name, row in found.items() if row is None]
    if missing:
        raise ValueError(
            f"{split.name}: {len(missing)} of the {len(found)} images of the {what} are not in it, such as "
            f"{', '.join(map(shown, missing[:_NAMED]))}; its first image is {shown(split.image_ids[0])}"
        )
    return {name: row for name, row in found.items() if row is not None}


def _last_part(name: str) -> str:
    return Path(name).name


def _stem(name: str) -> str:
    return Path(name).stem


def encoded_captions(model: MatchingModel, relations: Mapping[str, Triples | None], batch_size: int) -> Fragments:
    """Different captions with their relations, where any are known; in the order given."""
    if all(table is None for table in relations.values()):
        return model.encode_texts(list(relations), batch_size=batch_size)
    tables = CaptionRelations.pack([list(table or ()) for table in relations.values()])
    items = [
        CaptionItem(number, 0, text, torch.from_numpy(tables[number]).long()) for number, text in enumerate(relations)
    ]
    collate = Collator(_tokenizer(model))
    batches = (collate(items[start : start + batch_size]).captions for start in range(0, len(items), batch_size))
    return Fragments.cat([model.encode_texts(captions) for captions in batches if captions is not None])


def _tokenizer(model: MatchingModel) -> Tokenizer:
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer: set model.tokenizer")
    return model.tokenizer


def encoded_rows(model: MatchingModel, split: ImageTextSplit, rows: Sequence[int], batch_size: int) -> Fragments:
    """Some images of a split, by place."""
    loader = DataLoader(Subset(ImageDataset(split), rows), batch_size, collate_fn=Collator(_tokenizer(model)))
    return Fragments.cat([model.encode_images(batch.regions, batch_size=batch_size) for batch in loader])
