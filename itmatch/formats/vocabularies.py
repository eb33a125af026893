"""Vocabulary files of the SCAN and VSE++ repositories: words and their ids, as json or pickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itmatch.formats.files import existing_file, read_json, user_path, write_text
from itmatch.formats.messages import shown, shown_keys
from itmatch.formats.pickles import parse_pickle


def read_vocabulary(path: str | Path) -> list[str]:
    """The words of ``{"word2idx": {...}, "idx2word": {...}, "idx": n}``, in the order of their ids.

    Args:
        path: of the json file; or of a pickled ``Vocabulary`` with these attributes, of which nothing is run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a key is missing, ids are not 0..n-1, or the parts disagree.
    """
    path = existing_file(path)
    content = _unpickled(path) if is_pickle(path) else read_json(path)
    for key, kind in (("word2idx", dict), ("idx2word", dict), ("idx", int)):
        if type(content.get(key)) is not kind:
            raise ValueError(f"{path}: no {key!r} ({kind.__name__}); keys there: {shown_keys(content)}")
    ids = content["word2idx"]
    size = len(ids)
    by_id = {index: word for word, index in ids.items() if type(index) is int and 0 <= index < size}
    if len(by_id) != size:
        missing = next(index for index in range(size) if index not in by_id)
        raise ValueError(f"{path}: word2idx has {size} words and none with id {missing}, expected ids 0..{size - 1}")
    if content["idx"] != size:
        raise ValueError(f"{path}: idx is {shown(content['idx'])}, word2idx has {size} words")
    for index, word in by_id.items():
        if content["idx2word"].get(str(index)) != word:
            found = shown(content["idx2word"].get(str(index)))
            raise ValueError(f"{path}: idx2word[{index}] is {found}, word2idx says {shown(word)}")
    return [by_id[index] for index in range(size)]


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, which no json does, or is named as one."""
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or path.suffix in (".pkl", ".pickle")


def _unpickled(path: Path) -> dict[str, Any]:
    """A pickled vocabulary in the form of the json."""
    content = parse_pickle(path.read_bytes(), path, classes=["Vocabulary"], encoding="utf-8")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a pickled {type(content).__name__}, expected a Vocabulary")
    words = content.get("idx2word")
    return {**content, "idx2word": {str(i): word for i, word in words.items()} if isinstance(words, dict) else None}


def write_vocabulary(path: str | Path, words: Sequence[str]) -> None:
    """Write the form that :func:`read_vocabulary` reads."""
    content = {
        "word2idx": {word: index for index, word in enumerate(words)},
        "idx2word": {str(index): word for index, word in enumerate(words)},
        "idx": len(words),
    }
    write_text(user_path(path), json.dumps(content, ensure_ascii=False))
