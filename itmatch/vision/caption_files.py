"""Files that say which photo has which captions: json, a record per line, tables, and lines of a name and a caption."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from itmatch.formats.files import read_text
from itmatch.formats.json import parse_json
from itmatch.formats.messages import shown
from itmatch.formats.photos import PHOTO_ENDINGS
from itmatch.formats.records import CAPTION_KEYS, FILE_KEYS, file_of_record, texts_of_record
from itmatch.formats.text import read_lines

CAPTION_ENDINGS = "expected a .json, .jsonl, .csv, .txt or .tsv"
_LINES = (".txt", ".tsv", ".csv", ".token")
_RECORDS = (".jsonl", ".ndjson")
_NUMBERED = re.compile(rf"(.*(?:{'|'.join(map(re.escape, PHOTO_ENDINGS))}))#\d+", re.IGNORECASE)  # a.jpg#0

Record = Mapping[str, Any]


def caption_records(path: Path) -> Iterator[tuple[str, Record]]:
    """The records of a file of captions, by what names their photos; of each photo there may be several.

    ==================  ============================================================================================
    ``.json``           a list of records with a file and captions, also under ``images``; captions by file; or a file
                        of COCO's own, ``images`` and ``annotations``
    ``.jsonl``          a record per line, such as ``metadata.jsonl`` of a folder of ``datasets``
    ``.csv``, a table   its first line names the columns, one of which is of files and one of captions
    ``.txt``, ``.tsv``  a table, or lines ``FILE``, tab, caption, where a number may follow the file: ``a.jpg#0``
    ==================  ============================================================================================

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is none of these; names the line or the record.
    """
    ending = path.suffix.lower()
    if ending in _LINES:
        records = _of_text(path, read_lines(path))
    elif ending in _RECORDS:
        lines = enumerate(read_lines(path), 1)
        records = [(f"{path}:{number}", parse_json(line, path, number)) for number, line in lines if line.strip()]
    else:
        records = [(f"{path}: record {number}", one) for number, one in enumerate(_of_json(path))]
    for where, record in records:
        name = file_of_record(record) if isinstance(record, dict) else None
        if name is None or texts_of_record(record) is None:
            raise ValueError(f"{where} is {shown(record)}, expected a file and captions")
        yield name, record


def _of_text(path: Path, lines: Sequence[str]) -> list[tuple[str, Any]]:
    """Records, and where each is, of a table or of lines of a name and a caption."""
    delimiter = _delimiter(lines[0]) if lines else None
    if delimiter is not None:
        return _of_table(path, lines, delimiter)
    if path.suffix.lower() == ".csv" and lines:
        told = "expected the names of columns, such as file and caption, or file_name and text"
        raise ValueError(f"{path}:1: {shown(lines[0])}, {told}")
    return _of_lines(path, lines)


def _delimiter(header: str) -> str | None:
    """What stands between the columns of a table, by its first line; None where that names no files or no captions."""
    for delimiter in ("\t",) if "\t" in header else (",", ";", "|"):
        names = {name.strip().strip('"').lower() for name in header.split(delimiter)}
        if names & {*FILE_KEYS} and names & {*CAPTION_KEYS}:
            return delimiter
    return None


def _of_table(path: Path, lines: Sequence[str], delimiter: str) -> list[tuple[str, Any]]:
    # the table of Flickr30K has quotes as they come
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, quoting=quoting, strict=True)
    found: list[tuple[str, Any]] = []
    try:
        names = [name.strip().lower() for name in next(rows)]
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if len(row) not in (0, len(names)):
                raise ValueError(f"{where}: {len(row)} columns, expected {len(names)} as in the first line")
            if row:
                found.append((where, dict(zip(names, map(str.strip, row), strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path}:{rows.line_num}: {error}") from error
    return found


def _of_lines(path: Path, lines: Sequence[str]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for number, line in enumerate(lines, 1):
        name, tab, caption = line.partition("\t")
        if line.strip() and not tab:
            raise ValueError(f"{path}:{number}: {shown(line)}, expected a file and a caption with a tab between them")
        if line.strip():
            numbered = _NUMBERED.fullmatch(name.strip())
            record = {"file": name.strip() if numbered is None else numbered[1], "caption": caption}
            found.append((f"{path}:{number}", record))
    return found


def _of_json(path: Path) -> Sequence[Any]:
    content = _content(path)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = _of_annotations(path, content)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        content = content["images"]
    if isinstance(content, dict):
        content = [{"file": name, "captions": texts} for name, texts in content.items()]
    return content if isinstance(content, list) else []


def _of_annotations(path: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record per caption of a file of COCO's own, such as captions_val2017.json."""
    images = content.get("images")
    found, files = list[dict[str, Any]](), dict[str, Any]()
    for image in images if isinstance(images, list) else []:
        if isinstance(image, dict):
            files[str(image.get("id"))] = image
    for number, one in enumerate(content["annotations"]):
        image = files.get(str(one.get("image_id"))) if isinstance(one, dict) else None
        if image is None or "caption" not in one or (name := file_of_record(image)) is None:
            told = "a caption, and the image_id of one of the images, which has a file_name"
            raise ValueError(f"{path}: annotations[{number}] is {shown(one)}, expected {told}")
        found.append({"file": name, "caption": one["caption"]})
    return found


def _content(path: Path) -> Any:
    """What a json holds; nothing if it is empty. A file of another ending may be one, too."""
    text = read_text(path)
    if not text.strip():
        return None
    try:
        return parse_json(text, path)
    except ValueError as error:
        if path.suffix.lower() == ".json":
            raise
        raise ValueError(f"{error}; {CAPTION_ENDINGS} of captions") from error
