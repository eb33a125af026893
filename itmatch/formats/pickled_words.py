"""Vocabularies that the public code of VSE++ and SCAN has pickled, read without running anything that they contain."""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

from itmatch.formats.files import existing_file
from itmatch.formats.messages import reason, shown

_OBJECT = {("__builtin__", "object"), ("builtins", "object")}
_MAKERS = {("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")}


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, which no json does."""
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or path.suffix in (".pkl", ".pickle")


def read_pickled_vocabulary(path: str | Path) -> dict[str, Any]:
    """What a pickled ``Vocabulary`` holds: ``word2idx``, ``idx2word`` and ``idx``, as in the json of SCAN.

    A pickle can name any function to be called. Here the class ``Vocabulary`` of the public code is admitted, for which
    an empty class stands, and plain containers; a file that names anything else is refused before it is called.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such pickle, or it names something that is not admitted.
    """
    path = existing_file(path)
    try:
        found = _Reader(BytesIO(path.read_bytes()), encoding="utf-8").load()  # those of Python 2 hold bytes
    except _NotAdmittedError as error:
        raise ValueError(
            f"{path}: names {error}; only a Vocabulary of plain words is admitted, and nothing was run"
        ) from None
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path}: no pickled vocabulary ({reason(error)})") from None
    content = vars(found) if type(found).__name__ == "Vocabulary" else found
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("word2idx", "idx2word")):
        raise ValueError(f"{path}: {shown(type(found).__name__)}, expected a Vocabulary with word2idx and idx2word")
    return {**content, "idx2word": {str(index): word for index, word in content["idx2word"].items()}}


class _NotAdmittedError(Exception):
    """What a pickle names and may not."""


class _Reader(pickle._Unpickler):
    """Python's own unpickler, since the one in C makes room for whatever places a damaged file names."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for what is admitted."""
        if name == "Vocabulary":  # of vocab.py, lib/vocab.py, __main__: none of them is imported
            return self._vocabulary
        if (module, name) in _OBJECT:
            return object
        if (module, name) in _MAKERS:
            return self._made
        raise _NotAdmittedError(f"{shown(module)}.{shown(name)}".replace("'", ""))

    def __init__(self, file: BytesIO, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._vocabulary = type("Vocabulary", (), {})  # of each file its own, so that none changes it for the next

    def _made(self, cls: Any, *_: Any) -> Any:
        if cls is not self._vocabulary:
            raise _NotAdmittedError("an object of another class")
        return cls()
