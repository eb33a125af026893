"""What users search with, as fragments."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from itmatch.batch import Captions, Fragments, Regions
from itmatch.formats.messages import shown
from itmatch.models import MatchingModel
from itmatch.models._inputs import Images
from itmatch.models.photos import is_photo
from itmatch.ops.checks import check_choice
from itmatch.search.store.manifest import Side

Queries: TypeAlias = str | Sequence[str] | Captions | Images | Fragments
"""A text, texts or Captions; Regions, features (I, R, F) or a list of them; photos, whose paths are ``Path``s, since a
string is a text; or Fragments, with what is searched."""


def encoded_queries(model: MatchingModel, queries: Queries, side: Side | None) -> tuple[Side, Fragments]:
    """What the queries look for, and their fragments, as the model encodes them.

    Raises:
        TypeError: they are something else.
        ValueError: fragments do not say what they look for, or texts look for captions.
    """
    if isinstance(queries, Fragments):
        if side is None:
            raise ValueError('search: Fragments do not say what they are; give kind="images" or kind="captions"')
        return check_choice("kind", side, "images", "captions"), queries
    texts = _as_list(queries)
    is_list = isinstance(texts, (list, tuple))
    is_text = isinstance(texts, Captions) or (is_list and all(isinstance(text, str) for text in texts))
    found: Side = "images" if is_text and not (is_list and not texts and side == "captions") else "captions"
    if side not in (None, found):
        raise ValueError(f"search: kind={side!r}, but {'texts' if is_text else 'images'} look for {found}")
    return found, model.encode_texts(texts) if found == "images" else model.encode_images(texts)


def check_compares_images(similarity: nn.Module) -> None:
    """Raise unless a similarity scores images with images: it has no weights, which are learned of regions and words.

    Raises:
        ValueError: it has some.
    """
    if any(True for _ in similarity.parameters()):
        told = "has weights that were learned of regions and words, so it scores no images with images"
        raise ValueError(f"similar: {type(similarity).__qualname__} {told}")


def unknown_words(model: MatchingModel, queries: Queries, count: int) -> list[list[str]]:
    """The words of each of ``count`` queries that the model does not know; none of what is no text.

    Warns:
        UserWarning: it knows no word of a text, so that what is found is chance.
    """
    texts = _as_list(queries)
    if model.tokenizer is None or not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
        return [[] for _ in range(count)]
    unknown = model.tokenizer.unknown_words(texts)
    for text, words in zip(texts, unknown, strict=True):
        if words and model.tokenizer.unknown_share([text]) == 1:
            told = f"the model knows no word of {shown(text)}, so what is found is chance; unknown: {', '.join(words)}"
            warnings.warn(told, stacklevel=3)
    return unknown


def _as_list(queries: Any) -> Any:
    """A text, or an array of texts, as a list; images as they are.

    Raises:
        TypeError: neither texts nor images, or texts with something else among them.
    """
    if isinstance(queries, str):
        return [queries]
    if is_photo(queries):
        return queries
    if isinstance(queries, np.ndarray) and queries.ndim == 1 and queries.dtype.kind in "UO":
        queries = queries.tolist()
    if isinstance(queries, (list, tuple)) and any(isinstance(text, str) for text in queries):
        for number, text in enumerate(queries):
            if not isinstance(text, str):
                raise TypeError(f"queries[{number}]: a {type(text).__qualname__}, expected a text, as the others are")
    elif not isinstance(queries, (Captions, Fragments, Regions)) and (
        isinstance(queries, (bytes, Mapping)) or not (hasattr(queries, "__len__") and hasattr(queries, "__getitem__"))
    ):
        expected = "expected texts, photos, Captions, Regions, features or Fragments"
        raise TypeError(f"queries: a {type(queries).__qualname__}, {expected}")
    return queries
