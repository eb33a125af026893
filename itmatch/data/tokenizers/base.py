"""What a tokenizer is: texts to token ids."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch

from itmatch.batch import Captions, SceneGraph
from itmatch.data.tokenizers.vocabulary import Vocabulary
from itmatch.ops.checks import check_kind
from itmatch.ops.masking import lengths_to_mask
from itmatch.spec import Configurable


class Tokenizer(Configurable, ABC):
    """Texts to lists of token ids, the tokens that frame a sentence included."""

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""

    def batch(self, texts: Sequence[str]) -> Captions:
        """Some texts as the input of a text encoder, padded to the longest; there may be none.

        Raises:
            TypeError: one string instead of several, or something that is no string.
            ValueError: a text is empty, or has no tokens.
        """
        if isinstance(texts, str):
            raise TypeError("texts: one string; give a list of captions")
        texts = list(check_kind("texts", texts, Iterable))  # what gives its items once would be empty the second time
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{i}]: a {type(text).__qualname__}, expected a string")
            if not text.strip():
                raise ValueError(f"texts[{i}]: an empty caption")
        return self.padded(self(texts), texts)

    def padded(self, ids: Sequence[Sequence[int]], texts: Sequence[str], graph: SceneGraph | None = None) -> Captions:
        """Ids of each text, padded to the longest; the texts themselves are for error messages.

        Raises:
            ValueError: a text has no ids.
        """
        for row, text in zip(ids, texts, strict=True):
            if not row:
                raise ValueError(f"caption {text!r} has no tokens")
        if not ids:
            return Captions(torch.zeros(0, 1, dtype=torch.int64))
        mask = lengths_to_mask(torch.tensor([len(row) for row in ids]))
        input_ids = torch.full(mask.shape, self.pad_id)
        input_ids[mask] = torch.tensor([*chain.from_iterable(ids)])
        return Captions(input_ids, mask, graph)

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The characters [start, end) of each text that each of its tokens stands for; (0, 0) for those of the frame.

        Only relations of captions need it. The tokens are those that calling the tokenizer gives.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} does not say where in a text its tokens stand, which relations of captions "
            "need; give it a method spans(texts)"
        )

    def fit(self, captions: Iterable[str]) -> None:
        """Learn what has to be learned from the training captions, once, before use."""

    @property
    def fitted(self) -> bool:
        """Whether there is nothing to learn (any more), so that :meth:`fit` need not be given captions."""
        return True

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Ids are smaller than this."""

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """What fills up a batch; what stands there is masked."""

    @property
    @abstractmethod
    def mask_id(self) -> int | None:
        """What stands for a hidden token, or None."""

    @property
    @abstractmethod
    def special_ids(self) -> frozenset[int]:
        """Ids that are no part of the text: augmentation neither touches nor inserts them."""

    @property
    def unknown_id(self) -> int | None:
        """What stands for a part of a text that the tokenizer does not know, or None where there is no such id."""
        return None

    def unknown_share(self, texts: Sequence[str]) -> float | None:
        """Share of the tokens of some texts that stand for something unknown; the tokens of the frame do not count.

        None where nothing is unknown to the tokenizer, as to one that goes down to single bytes, and for texts without
        tokens. An id that also fills or frames texts, as CLIP's does, tells nothing, so that the answer is None too.
        """
        unknown, special = self._telling_unknown_id(), self.special_ids
        if unknown is None:
            return None
        tokens = [token for ids in self(texts) for token in ids if token not in special]
        return tokens.count(unknown) / len(tokens) if tokens else None

    def unknown_words(self, texts: Sequence[str]) -> list[list[str]]:
        """The parts of each text that stand for something unknown, in their order, each of them once.

        Nothing where nothing is unknown to the tokenizer, or where it does not say which part of a text a token is.
        """
        unknown = self._telling_unknown_id()
        try:
            spans = [] if unknown is None else self.spans(texts)
        except (NotImplementedError, ValueError):
            spans = []
        if not spans:
            return [[] for _ in texts]
        found = [
            [text[start:end] for token, (start, end) in zip(ids, row, strict=False) if token == unknown and start < end]
            for text, ids, row in zip(texts, self(texts), spans, strict=True)
        ]
        return [list(dict.fromkeys(words)) for words in found]

    def _telling_unknown_id(self) -> int | None:
        """:attr:`unknown_id`, where it means nothing else too."""
        unknown = self.unknown_id
        return None if unknown is None or unknown == self.pad_id or unknown in self([""])[0] else unknown

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words behind the ids, when ids are words."""
        return None

    @property
    def fingerprint(self) -> str:
        """A short hash of what decides the ids: two fitted tokenizers with the same one give the same ids.

        Where it was loaded from does not enter when the content is known, nor does how long a text may be. It is
        meant for comparing objects of one process: another version of a library may write the same content another
        way. A subclass whose ids depend on more than its :attr:`spec` overrides it.
        """
        return digest(self.spec)


def digest(value: Any) -> str:
    """A short hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
