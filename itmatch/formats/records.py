"""Records of json and of ``datasets``: under which keys the file of a photo, and its captions, may stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE_KEYS = (
    *("file", "file_name", "filename", "file_path", "img_path", "image", "image_name", "path"),
    *("image_id", "img_id", "cocoid"),
)
LAST_FILE_KEY = "id"  # where there is no other: in some files it is that of a person
CAPTION_KEYS = ("captions", "caption", "sentences", "raw", "text", "alt_text", "comment")


def file_of_record(record: Mapping[str, Any], *, or_id: bool = True) -> str | None:
    """What names the photo of a record; None where nothing does.

    Args:
        record: of a json, or of ``datasets``.
        or_id: its ``id`` will do, where there is nothing else.
    """
    keys = (*FILE_KEYS, LAST_FILE_KEY) if or_id else FILE_KEYS
    found = (record[key] for key in keys if isinstance(record.get(key), (str, int)))
    name = next(found, None)
    return None if name is None else str(name)


def texts_of_record(record: Mapping[str, Any]) -> list[str] | None:
    """The captions of a record: a text, several, or records with a text each; None if it has none of these.

    Example:
        >>> texts_of_record({"sentences": [{"raw": "a dog"}, {"raw": "a brown dog"}]})
        ['a dog', 'a brown dog']
    """
    given = next((record[key] for key in CAPTION_KEYS if record.get(key) is not None), None)
    numbered = [record[key] for key in sorted(record) if str(key).startswith("caption_")]
    if given is None and not numbered:
        return None
    texts: list[str] = []
    for one in numbered if given is None else given if isinstance(given, list) else [given]:
        if one is None:  # a row of a table that has fewer than others
            continue
        found = texts_of_record(one) if isinstance(one, dict) else [one] if isinstance(one, str) else None
        if found is None:
            return None
        texts += found
    return texts
