"""Captions and splits from json: the files of Karpathy's splits, and COCO's own files of captions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itmatch.data.batching.validation import is_visible
from itmatch.formats.files import read_json
from itmatch.formats.messages import shown, shown_keys

KEYS = ("cocoid", "imgid", "filename")


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of a json file.

    Args:
        where: the file and the place in it, for error messages.
        split: the name of its split.
        names: what names it, by those of ``KEYS`` that it has; a file name always.
        sentences: as they stand there, not yet looked at.
    """

    where: str
    split: str
    names: dict[str, Any]
    sentences: list[Any]

    @property
    def image_id(self) -> str:
        """Its ``cocoid``, or the name of its file where it has none.

        Raises:
            ValueError: the cocoid is neither a whole number nor a string.
        """
        found = self.names.get("cocoid", self.names["filename"])
        if type(found) not in (int, str):
            raise ValueError(f"{self.where}: cocoid is {shown(found)}, expected a whole number or a string")
        return str(found)

    def feature_file(self, key: str) -> str:
        """Name of the file of features that ``key`` names; raises a ValueError where the image has no such key."""
        if key not in self.names:
            raise ValueError(f"{self.where} has no {key!r}; keys there: {shown_keys(self.names)}")
        name = self.names[key]
        return f"{Path(name).stem if key == 'filename' else name}.npy"

    def problems(self) -> Iterator[str]:
        """What is wrong with its sentences."""
        for index, sentence in enumerate(self.sentences):
            if _text(sentence) is None:
                yield f"{self.where}.sentences[{index}]: no text in 'raw' and no list of words in 'tokens'"

    def captions(self, most: int | None = None, *, count_blank: bool = False) -> list[str]:
        """Its sentences as texts, blanks and newlines made single blanks.

        Args:
            most: so many, the first ones; None = all.
            count_blank: sentences without a visible character count, too.

        Raises:
            ValueError: a sentence has no text.
        """
        for problem in self.problems():
            raise ValueError(problem)
        texts = [_text(sentence) or "" for sentence in self.sentences]
        counts = [count_blank or is_visible(text) for text in texts]
        return texts if most is None else [text for place, text in enumerate(texts) if sum(counts[:place]) < most]


def without_sentences(images: Sequence[AnnotatedImage]) -> list[str]:
    """The images of a split that have no sentences, as problems; none where no image has any: that is a gallery."""
    lacking = [image for image in images if not image.sentences]
    if len(lacking) == len(images):
        return []
    return [f"{image.where}: no sentences, which other images of split {image.split} have" for image in lacking]


def read_annotations(paths: Sequence[Path]) -> list[AnnotatedImage]:
    """The images of some json files, one file after the other.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file is not json, or an image lacks something.
    """
    images: list[AnnotatedImage] = []
    for path in paths:
        found, problems = look_at_annotations(path, read_json(path))
        if problems:
            raise ValueError(problems[0])
        images += found
    return images


def look_at_annotations(path: Path, content: dict[str, Any]) -> tuple[list[AnnotatedImage], list[str]]:
    """The images of a json file that can be read, and what is wrong with it: a sentence per problem."""
    entries = content.get("images")
    if not isinstance(entries, list) or not entries:
        return [], [f"{path}: no list 'images' with something in it; keys there: {shown_keys(content)}"]
    if is_of_coco(content):
        return _look_at_coco(path, entries, content.get("annotations", []))
    images, problems = [], []
    for index, entry in enumerate(entries):
        where = f"{path}: images[{index}]"
        lacking = _lacking(entry, where, ("split", str), ("filename", str), ("sentences", list))
        problems += lacking
        if not lacking:
            names = {key: entry[key] for key in KEYS if key in entry}
            images.append(AnnotatedImage(where, entry["split"], names, entry["sentences"]))
    return images, problems


def is_of_coco(content: dict[str, Any]) -> bool:
    """Whether a json is COCO's own: of captions, or of images alone as ``image_info_test2014.json``."""
    images = content.get("images")
    first = images[0] if isinstance(images, list) and images else None
    return "annotations" in content or (isinstance(first, dict) and "file_name" in first and "sentences" not in first)


def _look_at_coco(path: Path, entries: list[Any], annotations: Any) -> tuple[list[AnnotatedImage], list[str]]:
    """COCO's own ``captions_val2014.json``: captions name their images; the split is in the name of the file."""
    if not isinstance(annotations, list):
        return [], [f"{path}: no list 'annotations'"]
    named = re.search(r"(?:captions|image_info)_([A-Za-z0-9-]+)", path.stem)
    split = named[1] if named else path.stem
    images, problems = [], []
    by_id: dict[int, AnnotatedImage] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: images[{index}]"
        lacking = _lacking(entry, where, ("id", int), ("file_name", str))
        if not lacking and entry["id"] in by_id:
            lacking = [f"{where} has the id of {by_id[entry['id']].where}: {entry['id']}"]
        problems += lacking
        if not lacking:
            names = {"cocoid": entry["id"], "filename": entry["file_name"]}
            by_id[entry["id"]] = AnnotatedImage(where, split, names, [])
            images.append(by_id[entry["id"]])
    for index, entry in enumerate(annotations):
        where = f"{path}: annotations[{index}]"
        lacking = _lacking(entry, where, ("image_id", int), ("caption", str))
        if not lacking and entry["image_id"] not in by_id:
            lacking = [f"{where} has image_id {entry['image_id']}, which is not among the 'images'"]
        problems += lacking
        if not lacking:
            by_id[entry["image_id"]].sentences.append({"raw": entry["caption"]})
    return images, problems


def _lacking(entry: Any, where: str, *keys: tuple[str, type]) -> list[str]:
    if not isinstance(entry, dict):
        return [f"{where} is a {type(entry).__name__}, expected a dict"]
    return [f"{where} has no {key!r} ({kind.__name__})" for key, kind in keys if type(entry.get(key)) is not kind]


def _text(sentence: Any) -> str | None:
    """A sentence as text: ``raw``, or the words in ``tokens`` where there is no raw one; None if there are neither."""
    if not isinstance(sentence, dict):
        return None
    words = sentence.get("raw", sentence.get("tokens"))
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        words = " ".join(words)
    return " ".join(words.split()) if isinstance(words, str) else None


def is_caption_json(path: Path) -> bool:
    """Whether a file is a json of captions, as far as its beginning says."""
    try:
        with path.open("rb") as file:
            return b'"images"' in file.read(4096) and path.suffix == ".json"
    except OSError:
        return False
