"""``itmatch extract``: a folder of precomputed features from photos."""

from __future__ import annotations

import shutil
from pathlib import Path

from itmatch.errors import UsageError
from itmatch.formats.files import existing_file
from itmatch.formats.messages import is_count
from itmatch.formats.temporaries import locked
from itmatch.formats.text import read_lines
from itmatch.spec import build
from itmatch.vision.backbones import Backbone
from itmatch.vision.captions import left_out, strangers_told, with_captions
from itmatch.vision.extractor import DEFAULT_DETECTOR, RegionExtractor
from itmatch.vision.merging import check_merged, is_merged, merge_parts
from itmatch.vision.parts import Plan
from itmatch.vision.photos import find_photos
from itmatch.vision.progress import extract_with_progress


def extract(
    photos: Path,
    *,
    out: Path,
    split: str = "photos",
    captions: Path | None = None,
    detector: str | None = None,
    backbone: str | None = None,
    classes: Path | None = None,
    regions: int = 36,
    min_score: float = 0.0,
    relations: int | None = None,
    shard: str | None = None,
    device: str | None = None,
    batch_size: int = 8,
    part_size: int = 64,
) -> None:
    """Write a folder of precomputed features (SPLIT_ims.npy, boxes, labels, scores, sizes, ids) from PHOTOS.

    The work is done in parts; what is there is not done again, so a call that was stopped goes on when it is made
    again. With --shard i/n a call does each n-th part and writes no folder yet; the call without --shard does the parts
    that are missing, and makes the folder.

    Args:
        photos: a folder, a text file with a path per line, a .tar file in the layout of webdataset, a folder of those,
            or a folder of Hugging Face datasets (of several splits, the one called SPLIT).
        out: folder to write.
        split: what its files are named after.
        captions: a json, jsonl or csv of files and captions, or a text file of lines FILE, tab, CAPTION; photos without
            captions are then left out. Those in .tar files and datasets are found by themselves.
        detector: name on the hub, or folder, of an object detector; "none" = a grid of the backbone. The default is
            ustc-community/dfine-small-obj365.
        backbone: likewise of a model such as DINOv2, whose features under the boxes take the place of the detector's;
            "detector" = the detector's own backbone; or FILE.CLASS, a Backbone of your own.
        classes: a text file of what an OWL-ViT, OWLv2 or Grounding DINO looks for, a name per line; the default is the
            80 classes of COCO.
        regions: of a photo, at most; of a grid, a square number.
        min_score: leave out regions of which the detector is less sure.
        relations: of each region, to so many others that are nearest: left of, above, inside and the like, for CMSEI,
            Hire and ReSG; the default is none.
        shard: i/n, from 1/n to n/n.
        device: such as cuda:1; the default is a GPU where there is one.
        batch_size: photos that go through the models together.
        part_size: photos of a part.
    """
    number, shards = _shard(shard)
    if detector == "none" and backbone is None:
        raise UsageError("--detector none: needs --backbone")
    name = None if detector == "none" else detector or DEFAULT_DETECTOR
    names = None if classes is None else [line.strip() for line in read_lines(existing_file(classes)) if line.strip()]
    extractor = RegionExtractor(
        name,
        backbone=_own_class(backbone),
        classes=names,
        regions=regions,
        min_score=min_score,
        relations=relations,
        device=device,
    )
    found = find_photos(photos, split)
    described = with_captions(found, captions)
    if described.texts:
        for line in (*left_out(found, described.texts), *strangers_told(captions, described.strangers)):
            print(line)
    folder = out / f"{split}.parts"
    plan = Plan(folder, described.photos, extractor, batch_size, part_size)
    check_merged(plan, out, split, described.texts)
    if is_merged(out, split):
        shutil.rmtree(folder, ignore_errors=True)  # of one that was stopped when all was written
        print(f"{out / split}_ims.npy is there already; remove it to extract again")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        plan.record()
    extract_with_progress(plan, plan.missing(number, shards))
    if shard is None:
        print(*merge_parts(plan, out, split, described.texts), f"written to {out}", sep="\n")
    else:
        print(f"shard {shard}: done; {len(plan.missing())} of {len(plan)} parts are missing")


def _own_class(backbone: str | None) -> Backbone | str | None:
    """The object of a class that is named as FILE.CLASS; all else, a name of the hub or a folder, as it is."""
    words = [] if backbone is None or Path(backbone).is_dir() else backbone.split(".")
    if len(words) < 2 or not all(map(str.isidentifier, words)):
        return backbone
    found: Backbone = build({"class_path": backbone}, Backbone, "--backbone", trusted_modules=words[:1])
    return found


def _shard(text: str | None) -> tuple[int, int]:
    """Which parts a call does: the first, and how far it is to the next."""
    if text is None:
        return 0, 1
    number, _, count = text.partition("/")
    if not (is_count(number) and is_count(count) and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard: {text!r}, expected i/n, from 1/n to n/n")
    return int(number) - 1, int(count)
