"""Which photos and captions a split has: from a Karpathy json, or from lists in text files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmatch.data.batching import validation
from itmatch.data.batching.validation import is_visible
from itmatch.data.sources.caption_json import KEYS, AnnotatedImage, read_annotations, without_sentences
from itmatch.data.sources.galleries import read_texts
from itmatch.data.sources.layout import lists_in, mapping_beside, owners_of
from itmatch.formats.features.base import RegionReader
from itmatch.formats.files import write_text
from itmatch.formats.messages import shown, shown_keys
from itmatch.formats.text import read_lines

SPLITS = {"train": ["train", "restval"], "dev": ["val"], "test": ["test"]}  # of a folder, from those of a json
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class PhotoList:
    """The photos of one split, in order, and their captions.

    Args:
        split: its name in the folder that is written.
        ids: what the photos are called there.
        keys: by kind (``cocoid``, ``filename`` ...), what files of features may call them.
        captions: of each photo; of a gallery none.
        where: the file, for error messages.
    """

    split: str
    ids: list[str]
    keys: dict[str, list[str]]
    captions: list[list[str]]
    where: str


def karpathy_lists(
    path: Path, splits: Mapping[str, Sequence[str]] | None = None, captions_per_image: int | None = None
) -> list[PhotoList]:
    """The splits of a ``dataset_*.json``, or of COCO's own file of captions.

    Args:
        path: the json.
        splits: by the name that a split gets, those of the json that it consists of; without any, those of
            :data:`SPLITS` that the json has, or the one of that name. None = all of :data:`SPLITS`, likewise.
        captions_per_image: the first so many captions of an image; None = all. Blank ones are left out.

    Raises:
        ValueError: the json is no good, or lacks a split that was named.
    """
    images = read_annotations([path])
    there = {image.split for image in images}
    usual = {name: [part for part in parts if part in there] for name, parts in SPLITS.items()}
    wanted = {name: parts or usual.get(name) or [name] for name, parts in (splits or {}).items()}
    wanted = wanted or {name: parts for name, parts in usual.items() if parts}
    for name, parts in wanted.items():
        missing = sorted(set(parts) - there) if splits else []
        if missing:
            raise ValueError(f"{path}: no image of split {missing[0]}, named for {name}; there: {shown_keys(there)}")
    if not wanted:
        raise ValueError(f"{path}: splits {shown_keys(there)}, expected train, val or test; name others by --split")
    lists = []
    for name, parts in wanted.items():
        chosen = [image for image in images if image.split in parts]
        keys = {key: [str(image.names[key]) for image in chosen] for key in KEYS if _all_have(chosen, key)}
        keys["stem"] = [Path(file).stem for file in keys["filename"]]
        captions = [list(filter(is_visible, image.captions(captions_per_image))) for image in chosen]
        for problem in without_sentences(chosen):
            raise ValueError(problem)
        for image, texts in zip(chosen, captions, strict=True):
            if image.sentences and not texts:
                raise ValueError(f"{image.where}: blank captions alone")
        lists.append(PhotoList(name, [image.image_id for image in chosen], keys, captions, f"{path} ({name})"))
    return lists


def text_lists(folder: Path, splits: Sequence[str] | None = None) -> list[PhotoList]:
    """The splits that ``{split}_ids.txt`` and ``{split}_caps.txt`` in a folder list, an id per photo or per caption.

    A split without captions is a gallery, with an id per photo. With ``id_mapping.json`` in the folder or in the one
    around it, the names of the photo files are known as well.

    Raises:
        FileNotFoundError: there are no such ids.
        ValueError: the two do not agree, or a caption or an id is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    folder = lists_in(folder)
    names = splits or sorted(path.name[: -len("_ids.txt")] for path in folder.glob("*_ids.txt"))
    if not names:
        raise FileNotFoundError(f"{folder}: no SPLIT_ids.txt with SPLIT_caps.txt in it")
    mapping = mapping_beside(folder)
    lists = []
    for name in names:
        ids_file, found = folder / f"{name}_ids.txt", read_texts(folder / name)
        ids = [line.strip() for line in read_lines(ids_file)]
        texts, owners = found.lines if found.describe else [], np.empty(0, np.int64)
        for problem in validation.caption_problems(texts, str(found.path)):
            raise ValueError(problem)
        if found.describe:
            ids, owners = owners_of(ids, len(texts), str(ids_file))
        for problem in validation.id_problems(ids, str(ids_file)):
            raise ValueError(problem)
        captions: list[list[str]] = [[] for _ in ids]
        for text, owner in zip(texts, owners.tolist(), strict=True):
            captions[owner].append(text)
        keys = {"id": ids, "stem": [Path(photo).stem for photo in ids]}
        if mapping and all(photo in mapping for photo in ids):
            keys["file"] = [Path(mapping[photo]).stem for photo in ids]
        lists.append(PhotoList(name, ids, keys, captions, str(ids_file)))
    return lists


def save_texts(where: Path, ids: Sequence[str], captions: Sequence[Sequence[str]]) -> int:
    """Write ``{where}_ids.txt`` and, unless it is a gallery, ``{where}_caps.txt``; returns the number of captions.

    Where photos have different numbers of captions an id stands for each of these.
    """
    uniform = len({len(texts) for texts in captions}) == 1
    lines = ids if uniform else [one for one, texts in zip(ids, captions, strict=True) for _ in texts]
    texts = [text for group in captions for text in group]
    write_text(f"{where}_ids.txt", "".join(f"{line}\n" for line in lines))
    if texts:
        write_text(f"{where}_caps.txt", "".join(f"{text}\n" for text in texts))
    return len(texts)


def find_photos(lists: Sequence[PhotoList], reader: RegionReader, key: str | None = None) -> list[list[int | None]]:
    """For each list, the places of its photos in the files of features; None where they have none.

    Args:
        lists: of all splits.
        reader: of the features.
        key: which kind of name the files use; None = the one that fits.

    Raises:
        ValueError: no kind fits any photo, several do and mean different ones, or the files name a photo twice.
    """
    places: dict[str, int] = {}
    for index, name in enumerate(reader.names):
        if places.setdefault(_plain(name), index) != index:
            raise ValueError(
                f"features: photo {shown(name)} is there twice, as number {places[_plain(name)]} and {index}"
            )
    kinds = [kind for kind in lists[0].keys if all(kind in one.keys for one in lists)]
    if key is not None and key not in kinds:
        raise ValueError(f"{lists[0].where}: no key {shown(key)}, expected {', '.join(kinds)}")
    found = {
        kind: [[places.get(_plain(name)) for name in one.keys[kind]] for one in lists]
        for kind in ([key] if key else kinds)
    }
    counts = {kind: sum(place is not None for rows in found[kind] for place in rows) for kind in found}
    most = max(counts.values())
    if most == 0:
        names = shown_keys(one for kind in found for one in lists[0].keys[kind][:1])
        raise ValueError(
            f"{lists[0].where}: features of none of its photos; it calls the first one {names}, the files have "
            f"{shown_keys(reader.names)}"
        )
    best = [kind for kind, count in counts.items() if count == most]
    if any(found[kind] != found[best[0]] for kind in best):
        raise ValueError(
            f"{lists[0].where}: {' and '.join(best)} fit the files and mean different photos; say which by --key"
        )
    return found[best[0]]


def _plain(name: str) -> str:
    """A name without the zeros that some writers fill numbers up with."""
    return str(int(name)) if _NUMBER.fullmatch(name) else name


def _all_have(images: Sequence[AnnotatedImage], key: str) -> bool:
    return all(type(image.names.get(key)) in (int, str) for image in images)
