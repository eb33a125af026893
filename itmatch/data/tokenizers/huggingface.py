"""The tokenizer of a pretrained model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from itmatch.data.tokenizers.base import Tokenizer, digest
from itmatch.formats.hub.asking import check_on_hub
from itmatch.formats.hub.models import load_pretrained
from itmatch.formats.messages import reason, shown
from itmatch.ops.checks import check_several

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer of a pretrained model. It is loaded when first needed, at the latest by :meth:`fit`.

    Its :attr:`spec` holds the whole tokenizer, so a checkpoint needs neither the folder nor the hub. This goes for fast
    tokenizers (those of the ``tokenizers`` library). One that is not fast, or that runs Python code of its own, cannot
    be written as plain data and is recorded by its name alone; so is one that cannot be loaded when the spec is asked
    for.

    Args:
        name_or_path: a model on the Hugging Face hub, or a folder; with ``serialized`` only for information.
        max_length: longer captions are cut to so many tokens, the frame included; None = to as many as the model reads,
            which its settings are asked for when the tokenizer is first needed.
        serialized: the tokenizer as :attr:`spec` records it. Nothing is then loaded, and ``transformers`` not imported.

    Raises:
        ValueError: ``max_length`` leaves no room for a word, or ``serialized`` is not what a spec holds.
    """

    def __init__(
        self, name_or_path: str, max_length: int | None = 64, *, serialized: dict[str, Any] | None = None
    ) -> None:
        if max_length is not None and max_length < 3:
            raise ValueError(f"max_length: {max_length}, expected 3 or more (two of them frame the caption)")
        self.name_or_path = str(name_or_path)
        self.max_length = max_length
        if serialized is not None:
            if max_length is None:
                raise ValueError(f"{self.name_or_path}: serialized, and max_length is None, expected a number")
            problem = _serialized_problem(serialized)
            if problem:
                raise ValueError(f"{self.name_or_path}: serialized {problem}")
            self.__dict__["_content"] = dict(serialized)

    def spec_arguments(self) -> dict[str, Any]:
        """With the tokenizer itself where it is fast; asking for it loads the tokenizer."""
        with suppress(FileNotFoundError):  # :meth:`fit` tells of it
            self._most()
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
        return digest(spec)

    def _most(self) -> int:
        """How many tokens a caption may have; None becomes a number."""
        if self.max_length is None:
            config = load_pretrained("AutoConfig", self.name_or_path, "model")
            settings = getattr(config, "text_config", config)
            self.max_length = int(settings.max_position_embeddings)
        return self.max_length

    @cached_property
    def _loaded(self) -> Any:
        from transformers import AutoTokenizer  # here, since importing transformers takes seconds

        with _told_of(f"{self.name_or_path}: no tokenizer could be loaded from it"):
            folder = Path(self.name_or_path)
            if not folder.is_dir():
                check_on_hub(self.name_or_path)
            elif not any((folder / name).is_file() for name in _FILES):  # transformers would make one without words
                raise FileNotFoundError(f"no file of a tokenizer in the folder, such as {_FILES[0]}")
            tokenizer = AutoTokenizer.from_pretrained(self.name_or_path, trust_remote_code=False)
            _special_ids(tokenizer)
            _check_ids(tokenizer)
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
        with _told_of(f"{self.name_or_path}: serialized holds no tokenizer"):
            backend = Backend.from_str(self._content["backend"])
            _check_ids(backend)
            backend.no_padding()  # a folder may hold the settings of somebody's last call
            backend.enable_truncation(self._most(), direction=self._content["truncation_side"])
            backend.encode_special_tokens = self._content["split_special_tokens"]
        return backend

    def fit(self, captions: Iterable[str]) -> None:
        """Load, so that a wrong name is reported now."""
        _ = self._loaded if self._content is None else self._backend
        self._most()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        check_several("texts", texts)
        if self._content is not None:
            return [list(encoding.ids) for encoding in self._encoded(texts)]
        encoded = self._loaded(list(texts), truncation=True, max_length=self._most(), padding=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _encoded(self, texts: Sequence[str]) -> Any:
        with _told_of(f"{self.name_or_path}: its tokenizer cannot read the captions"):
            return self._backend.encode_batch(list(texts))

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The characters [start, end) of each text that each of its tokens stands for; (0, 0) for those of the frame.

        Raises:
            ValueError: the tokenizer is not fast, and such do not tell.
        """
        if self._content is not None:
            offsets = [encoding.offsets for encoding in self._encoded(texts)]
        elif getattr(self._loaded, "is_fast", False):
            arguments = {"truncation": True, "max_length": self._most(), "padding": False}
            offsets = self._loaded(list(texts), return_offsets_mapping=True, **arguments)["offset_mapping"]
        else:
            raise ValueError(
                f"{self.name_or_path}: its tokenizer is not fast (of the tokenizers library), so it does not say where "
                "in a text its tokens stand, which relations of captions need; take a fast one, or WordTokenizer"
            )
        return [[_without_blanks(span, text) for span in row] for row, text in zip(offsets, texts, strict=True)]

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

    @cached_property
    def unknown_id(self) -> int | None:
        """Id of the unknown token, or None."""
        if self._content is None:
            return None if self._loaded.unk_token_id is None else int(self._loaded.unk_token_id)
        model = json.loads(self._backend.to_str())["model"]
        name = model.get("unk_token")
        found = model.get("unk_id") if name is None else self._backend.token_to_id(name)
        return None if found is None else int(found)

    @property
    def special_ids(self) -> frozenset[int]:
        """All special tokens except the unknown one, which is a word of the text."""
        return frozenset(self._special["special_ids"])

    @property
    def _special(self) -> dict[str, Any]:
        return _special_ids(self._loaded) if self._content is None else self._content


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    """Say in one line what did not work: the libraries raise whatever comes, and from Rust what is no Exception."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{what} ({reason(error)})") from error


def _without_blanks(span: tuple[int, int], text: str) -> tuple[int, int]:
    """The span without the white space at its ends, which some tokenizers count to the token that follows."""
    start, end = span
    word = text[start:end]
    start += len(word) - len(word.lstrip())
    return start, start + len(word.strip())


_MOST_IDS = 10**7
_SERIALIZED = ("backend", "truncation_side", "split_special_tokens", "pad_id", "mask_id", "special_ids")


def _serialized_problem(content: dict[str, Any]) -> str | None:
    """What is wrong with something that should be what :func:`_serialize` gives."""
    missing = [key for key in _SERIALIZED if key not in content]
    if missing:
        return f"has no {missing[0]!r}, expected {', '.join(_SERIALIZED)}"
    special = content["special_ids"]
    good = {
        "backend": isinstance(content["backend"], str),
        "truncation_side": content["truncation_side"] in ("left", "right"),
        "split_special_tokens": isinstance(content["split_special_tokens"], bool),
        "pad_id": _is_id(content["pad_id"]),
        "mask_id": content["mask_id"] is None or _is_id(content["mask_id"]),
        "special_ids": isinstance(special, list) and all(map(_is_id, special)),
    }
    return next((f"has {key} {shown(content[key])}" for key in _SERIALIZED if not good[key]), None)


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _special_ids(tokenizer: Any) -> dict[str, Any]:
    special = sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    return {"pad_id": tokenizer.pad_token_id, "mask_id": tokenizer.mask_token_id, "special_ids": special}


def _check_ids(tokenizer: Any) -> None:
    """Raise if an id is far beyond the tokens: writing such a tokenizer goes through all the numbers between."""
    ids = tokenizer.get_vocab()
    last = max(ids, key=ids.__getitem__, default=None)
    if last is not None and ids[last] > _MOST_IDS:
        raise ValueError(f"the id of {shown(last)} is {ids[last]}, expected at most {_MOST_IDS}")


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
