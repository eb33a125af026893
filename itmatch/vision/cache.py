"""Regions of photos that are extracted once, and kept for as long as the photos and the extractor stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from itmatch.formats.temporaries import locked
from itmatch.vision.extractor import RegionExtractor
from itmatch.vision.merging import merge_parts
from itmatch.vision.parts import Plan
from itmatch.vision.photos import Photo
from itmatch.vision.progress import extract_with_progress

SPLIT = "photos"
"""What the files of such a folder are named after."""


def default_cache() -> Path:
    """The folder of all caches: ``itmatch`` in ``XDG_CACHE_HOME``, or else in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itmatch"


def cached_regions(photos: Sequence[Photo], extractor: RegionExtractor, cache: Path, batch_size: int = 8) -> Path:
    """The folder of precomputed features of some photos, which is made where there is none.

    One of several processes makes it, and the others wait for it. One that was stopped goes on where it was.

    Args:
        photos: all of them, in order.
        extractor: what makes regions of them.
        cache: folder of such folders.
        batch_size: photos that go through the models together.

    Raises:
        FileNotFoundError: a model is not there.
        OSError: the folder cannot be written, or a photo not be read for a reason that lies in the disk.
        ValueError: no photo could be read.
    """
    folder = cache / digest_of(photos, extractor)
    done = folder / f"{SPLIT}_ims.npy"  # it is the last of the files that are written
    if done.exists():
        return folder
    parts, lock = folder / f"{SPLIT}.parts", folder / f"{SPLIT}.lock"
    lock.mkdir(parents=True, exist_ok=True)
    with locked(lock):
        if not done.exists():
            parts.mkdir(exist_ok=True)
            plan = Plan(parts, photos, extractor, batch_size)
            plan.record()
            extractor.load()  # what fails is not told of as begun
            print(f"extracting the regions of {len(photos)} photos, once, into {folder}", file=sys.stderr)
            extract_with_progress(plan, plan.missing(), lambda _: None)  # the unreadable are told of when they are read
            print(merge_parts(plan, folder, SPLIT, {})[0], file=sys.stderr)
        shutil.rmtree(parts, ignore_errors=True)  # of one that was stopped when all was written
    return folder


def digest_of(photos: Sequence[Photo], extractor: RegionExtractor) -> str:
    """A short text that changes when a photo or the extractor changes; the device does not count.

    Photos count by their names, sizes and times of change; so do the files of a model that is named by its folder. A
    photo that is not there counts as missing.
    """
    spec = extractor.spec
    found = hashlib.sha256(json.dumps([spec["class_path"], spec["init_args"]], sort_keys=True).encode())
    for place in _folders(spec["init_args"]):
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            found.update(_state(path.relative_to(place).as_posix(), path))
    for photo in photos:
        found.update(_state(photo.name, Path(photo.path)))
        found.update(f"{photo.start} {photo.size}\n".encode())
    return found.hexdigest()[:16]


def _folders(settings: Any) -> Iterator[Path]:
    """The settings that are folders, those of parts too."""
    if isinstance(settings, dict):
        for value in settings.values():
            yield from _folders(value)
    elif isinstance(settings, str) and settings and Path(settings).is_dir():
        yield Path(settings)


def _state(name: str, path: Path) -> bytes:
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"{name}\tmissing\n".encode()
    return f"{name}\t{there.st_size}\t{there.st_mtime_ns}\n".encode()
