"""Reading tests of understanding in the layouts of their authors."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.choices.rows import Choice, Triples
from itmatch.formats.files import existing_file, read_json, user_path
from itmatch.formats.json import parse_json
from itmatch.formats.messages import reason, shown
from itmatch.formats.text import read_lines

Record = Mapping[str, Any]
_ENDINGS = (".json", ".jsonl", ".csv")


def read_choices(path: str | Path) -> list[Choice]:
    """The questions of a file, or of all json, jsonl and csv files of a folder, in one of these layouts.

    ================  ==================================================================================================
    our own           json lines with ``image``, ``right``, ``wrong``, ``kind``, ``group``, ``relations``
                      (:class:`Choice`; ``itmatch data choices`` writes them)
    SugarCrepe        ``filename``, ``caption``, ``negative_caption``; the kind is the name of the file
    SugarCrepe++      the same with ``caption2``, which is right, too
    VALSE             ``image_file``, ``caption``, ``foil``, ``linguistic_phenomena``; where ``mturk`` counts the votes,
                      those with two for the caption alone, as its authors ask
    VSR               ``image``, ``caption``, ``label`` 1 or 0, ``relation``: single captions, right or wrong
    Winoground        ``image_0``, ``image_1``, ``caption_0``, ``caption_1``: two questions of one group
    BiVLC             ``image``, ``caption``, ``negative_image``, ``negative_caption``, ``type``, ``subtype``: likewise
    ================  ==================================================================================================

    A json holds a list of records, or records by number. An image is named by the last part of its path.

    Source:
        Hsieh et al., *SugarCrepe*, NeurIPS 2023; Dumpala et al., *SugarCrepe++*, NeurIPS 2024; Parcalabescu et al.,
        *VALSE*, ACL 2022; Liu et al., *Visual Spatial Reasoning*, TACL 2023; Thrush et al., *Winoground*, CVPR 2022;
        Miranda et al., *BiVLC*, NeurIPS 2024.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a record is of none of these layouts; names the file and the record.
    """
    given = user_path(path)
    files = sorted(file for file in given.iterdir() if file.suffix in _ENDINGS) if given.is_dir() else [given]
    choices = [choice for file in files for choice in _of_file(file)]
    if not choices:
        raise ValueError(f"{given}: no questions in it, expected {', '.join(_ENDINGS)} files of a known layout")
    return choices


def _of_file(path: Path) -> Iterator[Choice]:
    for number, record in enumerate(_records(path)):
        reader = None
        if isinstance(record, dict):
            reader = next((read for keys, read in _LAYOUTS if keys <= record.keys()), None)
        if reader is None:
            known = "; ".join(", ".join(sorted(keys)) for keys, _ in _LAYOUTS)
            raise ValueError(f"{path}: record {number} is {shown(record)}, expected one with {known}")
        try:
            yield from reader(record, path.stem, f"{path.stem} {number}")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: record {number}: {reason(error)}") from error


def _records(path: Path) -> Iterator[Any]:
    existing_file(path)
    if path.suffix == ".jsonl":
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                yield parse_json(line, path, number)
    elif path.suffix == ".csv":
        yield from csv.DictReader(read_lines(path))
    else:
        content = read_json(path, object)
        records = list(content.values()) if isinstance(content, dict) else content
        yield from records if isinstance(records, list) else [records]


def _own(record: Record, kind: str, group: str) -> Iterator[Choice]:
    yield Choice(
        str(record["image"]),
        tuple(record["right"]),
        tuple(record["wrong"]),
        str(record.get("kind", "")),
        str(record.get("group", "")),
        _triples(record.get("relations") or ()),
    )


def _triples(given: Any) -> tuple[Triples, ...]:
    """Relations as a json holds them; :class:`Choice` compares them with the captions."""
    packed = CaptionRelations.pack(list(given), "relations")
    return tuple(tuple((tuple(s), tuple(p), tuple(o)) for s, p, o in table.tolist()) for table in packed)


def _sugarcrepe(record: Record, kind: str, group: str) -> Iterator[Choice]:
    right = tuple(record[name] for name in ("caption", "caption2") if name in record)
    yield Choice(_name(record["filename"]), right, (record["negative_caption"],), kind)


def _valse(record: Record, kind: str, group: str) -> Iterator[Choice]:
    votes = record.get("mturk")
    if not isinstance(votes, dict) or int(votes.get("caption", 2)) >= 2:
        kind = str(record.get("linguistic_phenomena") or kind)
        yield Choice(_name(record["image_file"]), (record["caption"],), (record["foil"],), kind)


def _vsr(record: Record, kind: str, group: str) -> Iterator[Choice]:
    label = int(record["label"])
    if label not in (0, 1):
        raise ValueError(f"label: {label}, expected 0 or 1")
    caption = (record["caption"],)
    yield Choice(_name(record["image"]), caption if label else (), () if label else caption, str(record["relation"]))


def _winoground(record: Record, kind: str, group: str) -> Iterator[Choice]:
    kind = str(record.get("collapsed_tag") or record.get("tag") or kind)
    captions = record["caption_0"], record["caption_1"]
    yield Choice(_name(record["image_0"]), captions[:1], captions[1:], kind, group)
    yield Choice(_name(record["image_1"]), captions[1:], captions[:1], kind, group)


def _bivlc(record: Record, kind: str, group: str) -> Iterator[Choice]:
    kind = " ".join(str(record[name]) for name in ("type", "subtype") if record.get(name)) or kind
    captions = record["caption"], record["negative_caption"]
    yield Choice(_name(record["image"]), captions[:1], captions[1:], kind, group)
    yield Choice(_name(record["negative_image"]), captions[1:], captions[:1], kind, group)


def _name(image: Any) -> str:
    """The last part of a path; ``datasets`` writes an image as a record with its path."""
    path = image.get("path") if isinstance(image, dict) else image
    if not isinstance(path, str) or not path:
        raise ValueError(f"image: {shown(image)}, expected the name of a file")
    return Path(path).name


_LAYOUTS: list[tuple[set[str], Callable[[Record, str, str], Iterator[Choice]]]] = [
    ({"image", "right", "wrong"}, _own),
    ({"image", "caption", "negative_image", "negative_caption"}, _bivlc),
    ({"filename", "caption", "negative_caption"}, _sugarcrepe),
    ({"image_file", "caption", "foil"}, _valse),
    ({"image_0", "image_1", "caption_0", "caption_1"}, _winoground),
    ({"image", "caption", "label", "relation"}, _vsr),
]
