"""Vocabularies that the public code of VSE++ and SCAN has pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmatch.formats.files import existing_file
from itmatch.formats.messages import shown
from itmatch.formats.pickles import parse_pickle

_CLASSES = ("vocab.Vocabulary", "lib.vocab.Vocabulary", "__main__.Vocabulary")


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, which no json does, or is named as one."""
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or path.suffix in (".pkl", ".pickle")


def read_pickled_vocabulary(path: str | Path) -> dict[str, Any]:
    """What a pickled ``Vocabulary`` holds: ``word2idx``, ``idx2word`` and ``idx``, as in the json of SCAN.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, or a pickle that names anything but such a class and plain values; nothing is run.
    """
    path = existing_file(path)
    content = parse_pickle(path.read_bytes(), path, classes=_CLASSES)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("word2idx", "idx2word")):
        raise ValueError(f"{path}: a pickled {shown(type(content).__name__)}, expected a Vocabulary of words")
    return {**content, "idx2word": {str(index): word for index, word in content["idx2word"].items()}}
