"""Captions to token ids: words of a vocabulary, or the pieces of a pretrained model."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from itmatch.data.vocabulary import END, MASK, PAD, START, Vocabulary
from itmatch.spec import Configurable


class Tokenizer(Configurable, ABC):
    """Texts to lists of token ids, the tokens that frame a sentence included."""

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""

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
        return _digest(self.spec)


class WordTokenizer(Tokenizer):
    """Lower-cased words and punctuation, between ``<start>`` and ``<end>``.

    ``<mask>``, which :class:`SizeAugmentation` writes, is appended to a vocabulary that has none, as the public code of
    VSE-infinity does; the ids of the words stay those of the file.

    Args:
        vocabulary: a SCAN json file, or words in the order of their ids; None = :meth:`fit` builds it from the
            training captions.
        min_count: words rarer than this in the training captions become ``<unk>``; used by :meth:`fit` alone.

    Deviation:
        The published code splits a caption into sentences first, for which nltk needs a downloaded model. Ours does
        not, so a full stop inside a caption stays at its word.

    Example:
        >>> tokenizer = WordTokenizer(min_count=1)
        >>> tokenizer.fit(["A dog's ball."])
        >>> [tokenizer.vocabulary.words[i] for i in tokenizer(["a red ball."])[0]]
        ['<start>', 'a', '<unk>', 'ball', '.', '<end>']
    """

    def __init__(self, vocabulary: str | Path | list[str] | None = None, min_count: int = 4) -> None:
        if min_count < 1:
            raise ValueError(f"min_count: {min_count}, expected 1 or more")
        self.min_count = min_count
        self._vocabulary: Vocabulary | None = None
        if isinstance(vocabulary, (str, Path)):
            self._vocabulary = Vocabulary.from_json(vocabulary).with_mask()
        elif vocabulary is not None:
            self._vocabulary = Vocabulary(vocabulary).with_mask()

    def spec_arguments(self) -> dict[str, Any]:
        """The words themselves: a checkpoint needs neither the file nor the captions they came from."""
        if self._vocabulary is None:
            return super().spec_arguments()
        return {"vocabulary": list(self._vocabulary.words)}  # min_count has done its work

    def fit(self, captions: Iterable[str]) -> None:
        """Build the vocabulary, unless there is one."""
        if self._vocabulary is None:
            self._vocabulary = Vocabulary.build((self.words(text) for text in captions), self.min_count).with_mask()

    @property
    def fitted(self) -> bool:
        """Whether there is a vocabulary."""
        return self._vocabulary is not None

    def words(self, text: str) -> list[str]:
        """The words of a text, without the frame."""
        return [str(word) for word in self._splitter.tokenize(text.lower())]

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        vocabulary = self.vocabulary
        start, end = vocabulary[START], vocabulary[END]
        return [[start, *vocabulary.encode(self.words(text)), end] for text in texts]

    @cached_property
    def _splitter(self) -> Any:
        from nltk.tokenize import NLTKWordTokenizer  # here, since importing nltk takes a while

        return NLTKWordTokenizer()

    @property
    def vocabulary(self) -> Vocabulary:
        """The words behind the ids."""
        if self._vocabulary is None:
            raise RuntimeError("WordTokenizer: no vocabulary yet; give one, or call fit(captions)")
        return self._vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of words, the specials included."""
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        """Id of ``<pad>``."""
        return self.vocabulary[PAD]

    @property
    def mask_id(self) -> int | None:
        """Id of ``<mask>``."""
        return self.vocabulary[MASK]

    @property
    def special_ids(self) -> frozenset[int]:
        """``<pad>``, ``<start>``, ``<end>`` and ``<mask>``; an ``<unk>`` is a word of the text."""
        return frozenset(self.vocabulary[word] for word in (PAD, START, END, MASK))


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer of a pretrained model. It is loaded when first needed, at the latest by :meth:`fit`.

    Its :attr:`spec` holds the whole tokenizer, so a checkpoint needs neither the folder nor the hub. This goes for fast
    tokenizers (those of the ``tokenizers`` library). One that is not fast, or that runs Python code of its own, cannot
    be written as plain data and is recorded by its name alone; so is one that cannot be loaded when the spec is asked
    for.

    Args:
        name_or_path: a model on the Hugging Face hub, or a folder; with ``serialized`` only for information.
        max_length: longer captions are cut to so many tokens, the frame included.
        serialized: the tokenizer as :attr:`spec` records it. Nothing is then loaded, and ``transformers`` not imported.

    Raises:
        ValueError: ``max_length`` leaves no room for a word, or ``serialized`` is not what a spec holds.
    """

    def __init__(self, name_or_path: str, max_length: int = 64, *, serialized: dict[str, Any] | None = None) -> None:
        if max_length < 3:
            raise ValueError(f"max_length: {max_length}, expected 3 or more (two of them frame the caption)")
        self.name_or_path = str(name_or_path)
        self.max_length = max_length
        if serialized is not None:
            for key in _SERIALIZED:
                if key not in serialized:
                    raise ValueError(
                        f"{self.name_or_path}: serialized has no {key!r}, expected {', '.join(_SERIALIZED)}"
                    )
            self.__dict__["_content"] = dict(serialized)

    def spec_arguments(self) -> dict[str, Any]:
        """With the tokenizer itself where it is fast; asking for it loads the tokenizer."""
        arguments = super().spec_arguments()
        if "serialized" in arguments:
            try:
                arguments["serialized"] = self._content
            except ValueError:  # :meth:`fit` tells of it
                arguments["serialized"] = None
        return arguments

    @property
    def fingerprint(self) -> str:
        """A short hash of the tokenizer itself, or of its name if it is not fast; ``max_length`` does not enter."""
        spec = self.spec
        arguments = spec["init_args"]
        arguments.pop("max_length", None)
        if arguments.get("serialized") is not None:
            arguments.pop("name_or_path", None)
            backend = json.loads(self._backend.to_str())  # as this version of the library writes it
            arguments["serialized"]["backend"] = {**backend, "truncation": None}  # max_length is there
        return _digest(spec)

    @cached_property
    def _loaded(self) -> Any:
        from transformers import AutoTokenizer  # here, since importing transformers takes seconds

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.name_or_path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{self.name_or_path}: no tokenizer could be loaded from it ({reason})") from error
        if tokenizer.pad_token_id is None:
            raise ValueError(f"{self.name_or_path}: its tokenizer has no padding token")
        return tokenizer

    @cached_property
    def _content(self) -> dict[str, Any] | None:
        """What ``serialized`` records, or None if the tokenizer cannot be written as plain data."""
        return _serialize(self._loaded)

    @cached_property
    def _backend(self) -> Any:
        """The recorded tokenizer, set up to cut texts."""
        from tokenizers import Tokenizer as Backend

        assert self._content is not None
        try:
            backend = Backend.from_str(self._content["backend"])
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(f"{self.name_or_path}: serialized holds no tokenizer ({error})") from error
        backend.no_padding()  # a folder may hold the settings of somebody's last call
        backend.enable_truncation(self.max_length, direction=self._content["truncation_side"])
        backend.encode_special_tokens = self._content["split_special_tokens"]
        return backend

    def fit(self, captions: Iterable[str]) -> None:
        """Load, so that a wrong name is reported now."""
        _ = self._loaded if self._content is None else self._backend

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        if self._content is not None:
            return [list(encoding.ids) for encoding in self._backend.encode_batch(list(texts))]
        encoded = self._loaded(list(texts), truncation=True, max_length=self.max_length, padding=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return len(self._loaded) if self._content is None else int(self._backend.get_vocab_size())

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return int(self._special["pad_id"])

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token, or None."""
        found = self._special["mask_id"]
        return None if found is None else int(found)

    @property
    def special_ids(self) -> frozenset[int]:
        """All special tokens except the unknown one, which is a word of the text."""
        return frozenset(self._special["special_ids"])

    @property
    def _special(self) -> dict[str, Any]:
        return _special_ids(self._loaded) if self._content is None else self._content


_SERIALIZED = ("backend", "truncation_side", "split_special_tokens", "pad_id", "mask_id", "special_ids")


def _special_ids(tokenizer: Any) -> dict[str, Any]:
    special = sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    return {"pad_id": tokenizer.pad_token_id, "mask_id": tokenizer.mask_token_id, "special_ids": special}


def _serialize(tokenizer: Any) -> dict[str, Any] | None:
    """A tokenizer of transformers as plain data, or None."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    try:
        backend = tokenizer.backend_tokenizer.to_str()
    except Exception:  # what tokenizers raises when a part of it is written in Python
        return None
    return {
        "backend": backend,
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": bool(tokenizer.split_special_tokens),
        **_special_ids(tokenizer),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
