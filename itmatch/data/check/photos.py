"""Checking photos with lists of captions, and folders with a file of features per image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shlex import quote

from itmatch.data.check.features import SeenSplit, compare_splits, fingerprint, look_at_features
from itmatch.data.check.report import CheckReport
from itmatch.data.sources.base import Stage
from itmatch.data.sources.caption_json import is_caption_json
from itmatch.data.sources.features import FileFeatures, FolderFeatures
from itmatch.data.sources.images import MOST_LETTERS, ImageFolder, PatchFeatures
from itmatch.data.sources.layout import lists_in
from itmatch.data.sources.patches import PhotoPatches
from itmatch.data.split import ImageTextSplit
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.formats.features.opening import layout_of, open_regions
from itmatch.formats.features.photo_files import files_of
from itmatch.formats.messages import counted
from itmatch.formats.text import read_lines

_STAGES: dict[Stage, str] = {"train": "train", "val": "dev", "test": "test"}  # that ImageFolder reads
_SMALL = PhotoPatches(image_size=32, patch_size=32)  # enough to see whether a photo can be read


def check_photos(path: Path, photos: Path | None, tokenizer: Tokenizer | None) -> CheckReport:
    """Read the lists of captions, and all photos that they name, in ``photos`` or beside the lists."""
    report = CheckReport(str(path), "photos with lists of captions")
    lists = lists_in(path)
    there = sorted(file.name.removesuffix("_ids.txt") for file in lists.glob("*_ids.txt"))
    captions: dict[str, list[str]] = {}
    galleries: list[str] = []
    seen: dict[str, SeenSplit] = {}
    source = ImageFolder(path, photos, extractor=_SMALL)
    for stage, split in _STAGES.items():
        if split not in there and (there or stage != "test"):  # without any list all photos are a gallery
            continue
        dataset = report.attempt(partial(source.split, stage))
        if dataset is not None:
            captions[split] = dataset.captions
            galleries += [] if (dataset.caption_image >= 0).any() else [split]
            report.found.append(f"{split}: {_numbers(dataset)}")
        there += [] if split in there else [split]
        names = dataset.image_ids if dataset else report.attempt(partial(read_lines, lists / f"{split}_ids.txt"))
        ids = [name for name in dict.fromkeys(names or ()) if len(name) <= MOST_LETTERS]
        files = report.attempt(partial(source.files, ids))
        seen[split] = SeenSplit(names, prints=_look_at_photos(report, files or []))
    compare_splits(report, seen)
    report.note_splits(there, dict(_STAGES), galleries=galleries, nameable=False)
    report.add_coverage(captions, [split for split in ("train",) if split not in galleries], tokenizer)
    return report


def _numbers(dataset: ImageTextSplit) -> str:
    images, captions = dataset.num_images, dataset.num_captions
    if captions and dataset.caption_image[0] >= 0:
        return f"{images} photos, {captions} captions ({captions // images} per image)"
    return f"a gallery, {images} photos without captions" + f"; {captions} texts to search it with" * bool(captions)


def _look_at_photos(report: CheckReport, paths: list[Path]) -> dict[bytes, int]:
    """Read all photos, and note those that cannot be read; returns the first of each kind, by a hash."""
    store, prints = PatchFeatures(paths, _SMALL), dict[bytes, int]()
    for place in range(len(store)):
        pixels = report.attempt(partial(store.__getitem__, place))
        if pixels is not None:
            prints.setdefault(fingerprint(pixels), place)
    return prints


def check_feature_files(path: Path) -> CheckReport:
    """Read a folder with one ``.npy`` or ``.npz`` file of features per image, as a json of captions goes with."""
    report = CheckReport(str(path), "folder with a file of features per image, for KarpathyJson")
    files = files_of(path)
    store = report.attempt(partial(FolderFeatures, files))
    if store is not None:
        report.found.append(f"{counted(len(files), 'files')}, {store.feature_dim} numbers per region")
        look_at_features(report, store, str(path), names=[file.name for file in files])
        report.found.append(_next(path, [path]))
    return report


def _next(folder: Path, sources: Sequence[Path]) -> str:
    """The command that makes a folder of features that are looked at here; a json of captions beside them is named."""
    made = [file for file in sorted(folder.glob("*.json")) if is_caption_json(file)]
    captions = quote(str(made[0])) if made else "JSON"
    words = " ".join(quote(str(source)) for source in sources)
    return f"next: itmatch data convert {words} --karpathy {captions} --out FOLDER"


def check_region_file(path: Path, *more: Path) -> CheckReport:
    """Read a file of features in another layout, or several that are read as one, photo by photo."""
    report = CheckReport(str(path.parent if more else path), "features in another layout")
    reader = report.attempt(partial(open_regions, [path, *more]))
    if reader is not None:
        report.kind = f"features ({layout_of(path)})"
        report.found.append(f"{counted(len(reader), 'photos')}")
        store = report.attempt(partial(FileFeatures, reader, range(len(reader))))
        if store is not None:
            look_at_features(report, store, str(path), names=reader.names)
        report.found.append(_next(path if path.is_dir() else path.parent, [path, *more]))
    return report
