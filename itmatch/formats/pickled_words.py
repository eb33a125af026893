"""Vocabularies that the public code of VSE++ and SCAN has pickled, read without running anything that they contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmatch.formats.files import existing_file
from itmatch.formats.messages import shown
from itmatch.formats.pickles import parse_pickle


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, which no json does."""
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or path.suffix in (".pkl", ".pickle")


def read_pickled_vocabulary(path: str | Path) -> dict[str, Any]:
    """What a pickled ``Vocabulary`` holds: ``word2idx``, ``idx2word`` and ``idx``, as in the json of SCAN.

    The class ``Vocabulary`` of the public code stands for the dict of its attributes; see :func:`parse_pickle`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such pickle, or it names something that is not admitted.
    """
    path = existing_file(path)
    content = parse_pickle(path.read_bytes(), path, classes=["Vocabulary"], encoding="utf-8")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("word2idx", "idx2word")):
        raise ValueError(f"{path}: {shown(type(content).__name__)}, expected a Vocabulary with word2idx and idx2word")
    return {**content, "idx2word": {str(index): word for index, word in content["idx2word"].items()}}
