"""Parsers of captions: relations between words, as places in the text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from itmatch.data.caption_graphs.relations import NOWHERE
from itmatch.data.caption_graphs.words import split_words
from itmatch.formats.arrays import Array
from itmatch.spec import Configurable

Span: TypeAlias = tuple[int, int]  # characters [start, end) of a caption
Relation: TypeAlias = tuple[Span, Span, Span]  # subject, predicate, object


class CaptionParser(Configurable, ABC):
    """Captions to relations. Subclass it for a parser of your own.

    Attributes:
        counts: what there is to say of the last :meth:`parse`, by name; ``itmatch data parse`` prints it.

    Example:
        >>> class FirstAndLast(CaptionParser):
        ...     def parse(self, captions: Sequence[str]) -> list[Array]:
        ...         return [relations_array([((0, 1), NOWHERE, (len(text) - 1, len(text)))]) for text in captions]
        >>> FirstAndLast().parse(["abc"])[0].tolist()
        [[[0, 1], [-1, -1], [2, 3]]]
    """

    counts: Mapping[str, int] = MappingProxyType({})

    @abstractmethod
    def parse(self, captions: Sequence[str]) -> list[Array]:
        """The relations of each caption, (K, 3, 2) int32.

        They are the characters [start, end) of subject, predicate and object; the predicate's are -1, -1 where no words
        stand for it.

        Raises:
            ValueError: what was stored for the captions does not fit them.
        """


class AdjacentWords(CaptionParser):
    """Each word with the next one, without a predicate: relations for captions that nobody parsed.

    Example:
        >>> AdjacentWords().parse(["A dog runs."])[0][:, ::2].tolist()
        [[[0, 1], [2, 5]], [[2, 5], [6, 10]]]
    """

    def parse(self, captions: Sequence[str]) -> list[Array]:
        """The relations of each caption, (K, 3, 2) int32; punctuation is passed over."""
        found = map(split_words, captions)
        return [relations_array([(one, NOWHERE, two) for one, two in pairwise(words)]) for words in found]


def relations_array(relations: Sequence[Relation]) -> Array:
    """Some relations of a caption as (K, 3, 2) int32."""
    return np.array(relations, np.int32).reshape(-1, 3, 2)
