"""The folder of precomputed features that finished parts make."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.arrays import Array, array_rows, save_array
from itmatch.formats.files import read_json, write_text, written_together
from itmatch.formats.messages import counted
from itmatch.formats.text import read_lines
from itmatch.vision.parts import FILLING, Plan, check_same_extractor, check_same_photos, read_part
from itmatch.vision.relations import BOX_PREDICATES

_DTYPES = {"boxes": np.float32, "labels": np.int32, "scores": np.float32, "relations": np.int32}


def is_merged(out: Path, split: str) -> bool:
    """Whether a split is there already."""
    return (out / f"{split}_ims.npy").exists()  # it is the last of the files that are written


def check_merged(plan: Plan, out: Path, split: str, captions: Mapping[str, list[str]]) -> None:
    """Refuse a folder that was made otherwise: all splits of a folder have one extractor.

    Where the split itself is there already, its photos and captions are compared as well; captions that it has not got
    are written.

    Args:
        plan: of the extraction.
        out: the folder, which need not be there.
        split: of the plan.
        captions: by photo; empty = none are given, and those that are there stay.

    Raises:
        ValueError: another extractor, or other photos or captions.
    """
    for noted in sorted(out.glob("*_extractor.json")):
        other = noted.name.removesuffix("_extractor.json")
        if is_merged(out, other):
            check_same_extractor(read_json(noted), plan.extractor, f"{noted}: made with", _way_out(out, other))
    ids, unreadable = (out / f"{split}_{name}.txt" for name in ("ids", "unreadable"))
    if is_merged(out, split) and ids.exists() and unreadable.exists():  # else the folder is somebody else's
        names = list(dict.fromkeys(read_lines(ids)))
        there = names + [line.partition("\t")[0] for line in read_lines(unreadable)]
        now = [photo.name for photo in plan.photos]
        check_same_photos(there, now, f"{ids}: made of", _way_out(out, split))
        if captions:
            _check_captions(out / split, names, captions)


def _check_captions(where: Path, names: list[str], captions: Mapping[str, list[str]]) -> None:
    path = Path(f"{where}_caps.txt")
    if not path.exists():
        with written_together():
            _write_captions(str(where), names, captions)
    elif read_lines(path) != [text for name in names for text in captions[name]]:
        raise ValueError(f"{path}: other captions than those given; remove it to have these written")


def _way_out(out: Path, split: str) -> str:
    return f"write to another folder, or remove {out / split}_ims.npy to extract {split} anew"


def merge_parts(plan: Plan, out: Path, split: str, captions: Mapping[str, list[str]]) -> list[str]:
    """Write the files of a split from all parts, together or not at all, and remove the parts; returns what was done.

    Args:
        plan: of the extraction; all its parts are there.
        out: the folder.
        split: what the files are named after.
        captions: by photo; empty = none are written; those that are there stay if they are of the same photos.

    Raises:
        ValueError: a part is damaged, or no photo could be read.
    """
    summary = [_without_features(read_part(plan.file(part))) for part in range(len(plan))]
    good = np.concatenate([part["good"] for part in summary])
    names = [photo.name for photo, kept in zip(plan.photos, good, strict=True) if kept]
    errors = {name: error for part in summary for name, error in part["errors"].items()}
    if not names:
        raise ValueError(
            f"{plan.folder}: none of the {len(good)} photos could be read: {next(iter(errors.values()), '')}"
        )
    lengths = np.concatenate([part["lengths"] for part in summary])
    places = {photo.name: photo.place for photo in plan.photos}
    where, most = f"{out / split}", int(lengths.max())
    filled = [part for part in summary if part["good"].any()]
    uneven = bool((lengths < most).any())
    stale = [name for name in _DTYPES if name not in filled[0]] + ([] if uneven else ["lengths"])
    kept = not captions and _has_captions(where, names)
    old = [Path(f"{where}_{name}.npy") for name in stale] + ([] if captions or kept else [Path(f"{where}_caps.txt")])
    with written_together(removing=old):  # of a split that is extracted anew
        for name, dtype in _DTYPES.items():
            if name in filled[0]:
                width = max(1, *(part[name].shape[1] for part in filled))  # 1: no relations are one that is absent
                rows = [_widened(part[name], width, FILLING.get(name, 0)) for part in filled]
                save_array(f"{where}_{name}.npy", np.concatenate(rows).astype(dtype))
        save_array(f"{where}_sizes.npy", np.concatenate([part["sizes"] for part in filled]))
        if uneven:
            save_array(f"{where}_lengths.npy", lengths)
        write_text(f"{where}_extractor.json", json.dumps(plan.extractor.spec, indent=1) + "\n")
        write_text(f"{where}_photos.txt", "".join(f"{places[name]}\n" for name in names))
        if not kept:
            _write_captions(where, names, captions)
        write_text(f"{where}_unreadable.txt", "".join(f"{name}\t{error}\n" for name, error in errors.items()))
        if plan.extractor.label_names:
            write_text(out / "labels.json", json.dumps(plan.extractor.label_names) + "\n")
        if "relations" in filled[0]:
            write_text(out / "predicates.json", json.dumps(BOX_PREDICATES) + "\n")
        shape = _write_features(plan, Path(f"{where}_ims.npy"), len(names), most)  # last: the others are there with it
    shutil.rmtree(plan.folder)
    told = [f"{split}: {counted(len(names), 'photos')}, {shape} float16"]
    return told + (
        [f"{counted(len(errors), 'photos')} could not be read, listed in {where}_unreadable.txt"] if errors else []
    )


def _write_features(plan: Plan, path: Path, count: int, most: int) -> tuple[int, ...]:
    """Part by part, so that the memory that is taken does not grow with the photos."""
    first = next(part for number in range(len(plan)) if (part := read_part(plan.file(number)))["good"].any())
    shape, row = (count, most, first["features"].shape[-1]), 0
    with array_rows(path, shape, np.dtype(np.float16)) as put:
        for number in range(len(plan)):
            part = read_part(plan.file(number))
            for values in part.get("features", ()):
                if values.shape[-1] != shape[-1]:
                    raise ValueError(
                        f"{plan.file(number)}: features of {values.shape[-1]} numbers, expected {shape[-1]}"
                    )
                put(row, _widened(values[None], most, 0)[0])
                row += 1
    return shape


def _has_captions(where: str, names: list[str]) -> bool:
    """Whether captions of just these photos are there, of an earlier extraction."""
    ids, texts = Path(f"{where}_ids.txt"), Path(f"{where}_caps.txt")
    return ids.exists() and texts.exists() and list(dict.fromkeys(read_lines(ids))) == names


def _write_captions(where: str, names: list[str], captions: Mapping[str, list[str]]) -> None:
    """Ids, an id per photo or, where photos have different numbers of captions, per caption; and the captions."""
    groups = [captions[name] for name in names] if captions else []
    uniform = len({len(texts) for texts in groups}) < 2
    ids = names if uniform else [name for name, texts in zip(names, groups, strict=True) for _ in texts]
    write_text(f"{where}_ids.txt", "".join(f"{name}\n" for name in ids))
    if captions:
        write_text(f"{where}_caps.txt", "".join(f"{text}\n" for texts in groups for text in texts))


def _widened(values: Array, most: int, value: int) -> Array:
    missing = [(0, 0), (0, most - values.shape[1]), *((0, 0),) * (values.ndim - 2)]
    return np.pad(values, missing, constant_values=value)


def _without_features(part: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in part.items() if name != "features"}
