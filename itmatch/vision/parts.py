"""Extraction in parts, so that many processes can share it and none is lost when one of them is killed."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itmatch.errors import PhotoError
from itmatch.extractor import Extractor, other_setting
from itmatch.formats.arrays import Array
from itmatch.formats.files import read_json, write_text, written_beside
from itmatch.formats.messages import reason, shown
from itmatch.ops.checks import check_whole
from itmatch.spec import is_spec
from itmatch.vision.extractor import PhotoRegions, RegionExtractor
from itmatch.vision.photos import Photo, made_of

_COLUMNS = ("features", "boxes", "labels", "scores")
FILLING = {"labels": -1, "relations": -1}
"""What stands where a photo has fewer regions or relations than another; 0 in the other columns."""
_HALF = 65504.0  # the largest of float16
_Row = dict[str, Array] | None  # None: the photo cannot be read


@dataclass(frozen=True)
class Plan:
    """Which photos are extracted how. The folder of the parts holds it, so that all processes do the same.

    Args:
        folder: of the parts.
        photos: all of them, in order.
        extractor: what is made of them.
        batch_size: photos that go through the models together.
        part_size: photos of a part, a multiple of ``batch_size``.
    """

    folder: Path
    photos: Sequence[Photo]
    extractor: RegionExtractor
    batch_size: int = 8
    part_size: int = 64

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_whole("batch_size", self.batch_size)
        check_whole("part_size", self.part_size)

    def __len__(self) -> int:
        """Number of parts."""
        return -(-len(self.photos) // self.part_size)

    def file(self, part: int) -> Path:
        """Where a part is written."""
        return self.folder / f"{part:06d}.npz"

    def missing(self, shard: int = 0, shards: int = 1) -> list[int]:
        """The parts of a shard, or all, that are not there yet."""
        return [part for part in range(shard, len(self), shards) if not self.file(part).exists()]

    def record(self) -> None:
        """Write the plan down, or compare it to the one that is there.

        Raises:
            ValueError: other photos or settings were extracted into this folder.
        """
        names = [photo.name for photo in self.photos]
        plan = {"extractor": self.extractor.spec, "part_size": self.part_size, "photos": names}
        path = self.folder / "plan.json"
        if not path.exists():
            write_text(path, json.dumps(plan, indent=1) + "\n")
            return
        there = read_json(path)
        way_out = f"write to another folder, or remove {self.folder} to begin anew"
        check_same_extractor(there.get("extractor"), self.extractor, f"{path}: begun with", way_out)
        if there.get("part_size") != self.part_size:
            size = f"part_size {shown(there.get('part_size'))}"
            raise ValueError(f"{path}: begun with {size}, now {self.part_size}; {way_out}")
        before = list(there.get("photos", ()))
        check_same_photos(before, names, f"{path}: begun with", way_out)
        if before != names:
            raise ValueError(f"{path}: begun with the photos in another order; {way_out}")


def check_same_extractor(there: Any, now: Extractor, done: str, way_out: str) -> None:
    """Refuse another extractor than before.

    Args:
        there: how the one from before is recorded.
        now: the other one.
        done: what was done with it and where, for the error message.
        way_out: what can be done about it, likewise.

    Raises:
        ValueError: they differ; names the setting.
    """
    differs = other_setting(there if is_spec(there) else {"class_path": None}, now.spec)
    if differs is not None:
        name, before, after = differs
        raise ValueError(f"{done} {name} {shown(before)}, now {shown(after)}; {way_out}")


def check_same_photos(there: Sequence[str], now: Sequence[str], done: str, way_out: str) -> None:
    """Refuse other photos than before; arguments as of :func:`check_same_extractor`.

    Raises:
        ValueError: one is new, or is no more; names it.
    """
    before, after = set(there), set(now)
    differs = next((name for name in (*now, *there) if (name in before) != (name in after)), None)
    if differs is not None:
        found = f"{len(before)} photos, now {len(after)}, of which {shown(differs)} is new"
        if differs in before:
            found = f"{shown(differs)} among {len(before)} photos, now {len(after)} without it"
        raise ValueError(f"{done} {found}; {way_out}")


def extract_parts(
    plan: Plan, parts: Sequence[int], told: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[int, float]]:
    """Extract parts and write each, whole or not at all; yields photos done and photos per second.

    Photos that cannot be read, or prepared, are told of and noted in the part.

    Args:
        plan: of the extraction.
        parts: which.
        told: is called with a line about each photo that cannot be read.

    Raises:
        OSError: a photo could not be read for a reason that lies in the disk.
    """
    plan.extractor.load()
    begun, done = time.monotonic(), 0
    for part in parts:
        photos = plan.photos[part * plan.part_size : (part + 1) * plan.part_size]
        rows: list[_Row] = []
        errors: dict[str, str] = {}
        for start in range(0, len(photos), plan.batch_size):
            batch = photos[start : start + plan.batch_size]
            rows += _extract(plan.extractor, batch, errors)
            done += len(batch)
            yield done, done / max(time.monotonic() - begun, 1e-9)
        for error in errors.values():
            told(error)
        _write(plan.file(part), rows, [photo.name for photo in photos], errors)


def read_part(path: Path) -> dict[str, Any]:
    """What a part holds: arrays with a row per photo, ``good`` (which have regions), and ``errors`` by name.

    Raises:
        ValueError: a damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, Any] = {name: file[name] for name in file.files}
        found["errors"] = json.loads(found["errors"].tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged ({reason(error)}); remove it and run again") from error
    return found


def _extract(extractor: RegionExtractor, photos: Sequence[Photo], errors: dict[str, str]) -> list[_Row]:
    """A row per photo, None for one that cannot be read."""
    rows: list[_Row] = [None] * len(photos)

    def make(images: list[Any]) -> list[dict[str, Array]]:
        found = extractor(images)
        return [_row(found, row) for row in range(len(images))]

    for places, made in made_of(photos, make, errors):
        for place, row in zip(places, made, strict=True):
            rows[place] = row
    return rows


def _row(found: PhotoRegions, row: int) -> dict[str, Array]:
    count = int(found.mask[row].sum())
    columns = {name: getattr(found, name) for name in _COLUMNS}
    values = {name: column[row, :count].numpy() for name, column in columns.items() if column is not None}
    if found.graph is not None:
        own = found.graph.row == row
        (subject, other), predicate = found.graph.edge_index[:, own], torch.as_tensor(found.graph.predicate)[own]
        values["relations"] = torch.stack((subject, predicate, other), -1).numpy().astype(np.int32)
    largest = float(np.abs(values["features"]).max(initial=0))
    if largest > _HALF:
        raise PhotoError(f"a feature of {largest:g} is beyond float16")
    values["features"] = values["features"].astype(np.float16)
    values["sizes"] = torch.as_tensor(found.sizes)[row].numpy().astype(np.int32)
    return values


def _write(path: Path, rows: Sequence[_Row], names: Sequence[str], errors: dict[str, str]) -> None:
    real = [row for row in rows if row is not None]
    arrays: dict[str, Array] = {"good": np.array([row is not None for row in rows])}
    arrays["lengths"] = np.array([len(row["features"]) for row in real], np.int32)
    for name in real[0] if real else ():
        columns = [row[name] for row in real]
        most = max(map(len, columns))
        arrays[name] = np.stack([_padded(column, most, FILLING.get(name, 0)) for column in columns])
    told = {name: errors[name] for name in names if name in errors}
    arrays["errors"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    with written_beside(path) as beside:
        content = BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        beside.write_bytes(content.getvalue())


def _padded(values: Array, length: int, value: int) -> Array:
    missing = [(0, length - len(values)), *((0, 0),) * (values.ndim - 1)]
    return np.pad(values, missing, constant_values=value)
