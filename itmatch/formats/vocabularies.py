"""Vocabulary files of SCAN: words and their ids, as JSON."""

from __future__ import annotations

from pathlib import Path

from itmatch.formats.files import read_json
from itmatch.formats.messages import shown, shown_keys


def read_words(path: str | Path) -> list[str]:
    """The words of ``{"word2idx": {...}, "idx2word": {...}, "idx": n}``, in the order of their ids.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a key is missing, ids are not 0..n-1, or the parts disagree.
    """
    content = read_json(path)
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
