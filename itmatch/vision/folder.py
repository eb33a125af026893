"""A folder of photos with captions as a source of data: the regions of the photos are extracted once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from itmatch.data import (
    ArrayFeatures,
    DataSource,
    ImageTextSplit,
    PatchFeatures,
    PhotoPatches,
    PrecompFolder,
    Stage,
)
from itmatch.data.sources.features import FeatureStore, open_features
from itmatch.extractor import Extractor
from itmatch.formats.arrays import Array, take_rows
from itmatch.formats.files import existing_file, user_path
from itmatch.formats.messages import counted, shown, shown_keys
from itmatch.formats.text import read_lines
from itmatch.ops.checks import check_share, check_whole
from itmatch.vision.cache import SPLIT, cached_regions, default_cache
from itmatch.vision.captions import left_out, splits_of, strangers_told, with_captions
from itmatch.vision.extractor import RegionExtractor
from itmatch.vision.photos import Photo, find_photos

_STAGES: dict[str, Stage] = {"train": "train", "restval": "train", "val": "val", "dev": "val", "test": "test"}
_Described = list[tuple[Photo, list[str]]]


class PhotoFolder(DataSource):
    """Photos with captions. Their regions are extracted once, into a cache, and are then read from there.

    The splits are those that a file of captions names (``split`` of a record, as in Karpathy's files: train and
    restval, val or dev, test), or a folder of ``datasets`` has. Or each split has a file of captions of its own. Else a
    photo belongs to a split by the hash of its name: it stays there when others come or go. No photo may be in train
    and in another split.

    The cache has a folder for each set of photos and extractor; a photo that is changed, added or removed makes a new
    one. Old ones can be removed. An extraction that was stopped goes on where it was, and of several processes one
    extracts while the others wait. Photos that cannot be read are listed in the folder, and left out.

    Args:
        root: a folder with photos in it or below it; or what else ``itmatch extract`` takes: a list, tar files, or a
            folder of ``datasets``.
        captions: a json, jsonl or csv of files and captions, or a text file of lines ``FILE``, tab, caption; or one per
            split, such as ``{train: a.json, val: b.json, test: b.json}``. None = those that come with the photos.
            Photos without captions are left out.
        extractor: makes the regions; None = ``RegionExtractor()``, the default detector. ``PhotoPatches``, for CLIP and
            SigLIP, reads the photos whenever they are asked for, and nothing is extracted.
        cache: folder of the caches; None = ``itmatch`` in ``~/.cache`` (or in ``XDG_CACHE_HOME``).
        val_share: of the photos to select on, where no file says which; 0 = none are needed.
        test_share: of the photos to test with, likewise; 1 = all, with a ``val_share`` of 0, to test without training.
        batch_size: photos that go through the models of the extractor together.

    Example:
        >>> PhotoFolder("my_photos", "captions.json").spec["init_args"]["val_share"]
        0.1
    """

    def __init__(
        self,
        root: str | Path,
        captions: dict[str, str] | str | Path | None = None,
        extractor: Extractor | None = None,  # one base class, so that what is wrong with either is told as it is
        *,
        cache: str | Path | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        batch_size: int = 8,
    ) -> None:
        self.root, self.captions = user_path(root), captions
        if extractor is not None and not isinstance(extractor, (RegionExtractor, PhotoPatches)):
            found = type(extractor).__name__
            raise TypeError(f"extractor: a {found}, expected a RegionExtractor or PhotoPatches")
        self.extractor: RegionExtractor | PhotoPatches = RegionExtractor() if extractor is None else extractor
        self.cache = default_cache() if cache is None else user_path(cache)
        self.val_share, self.test_share = check_share("val_share", val_share), check_share("test_share", test_share)
        if val_share + test_share > 1:
            raise ValueError(f"val_share + test_share: {val_share + test_share:g}, expected at most 1")
        self.batch_size = check_whole("batch_size", batch_size)
        if isinstance(captions, dict) and set(captions) != set(_STAGES.values()):
            raise ValueError(f"captions: of {shown_keys(captions)}, expected those of train, val and test")
        self._splits: dict[Stage, _Described] | None = None
        self._regions: ImageTextSplit | None = None

    def split(self, stage: Stage) -> ImageTextSplit:
        """The photos and captions of one stage; the first call extracts what is not there yet.

        Raises:
            FileNotFoundError: the folder, the captions or a model are not there.
            OSError: a photo could not be read for a reason that lies in the disk.
            ValueError: a file of captions is no good, there is no photo for this stage (before regions are extracted
                for "train": for any stage), or one is in train and in another split.
        """
        self._check_stage(stage)
        if self._splits is None:
            self._splits = self._found()
        self._check_photos(self._splits, stage)
        described = self._splits[stage]
        if isinstance(self.extractor, PhotoPatches):
            return self._joined(stage, described, self._patches(described, self.extractor))
        if self._regions is None:
            self._regions = self._extracted(self._splits, self.extractor)
        whole = self._regions
        row_of = {name: row for row, name in enumerate(whole.image_ids)}
        readable = [(photo, texts) for photo, texts in described if photo.name in row_of]
        if not readable:
            raise ValueError(f"{self.root}: none of the {len(described)} photos for {stage} can be read")
        rows = np.array([row_of[photo.name] for photo, _ in readable], np.int64)
        features = ArrayFeatures(open_features(f"{whole.name}_ims.npy"), rows=rows, name=f"{self.root} ({stage})")
        return self._joined(stage, readable, features, whole, rows)

    def _check_photos(self, splits: Mapping[Stage, _Described], stage: Stage) -> None:
        """Refuse a stage without photos; before an extraction for training those, too, that come after it."""
        needed: list[Stage] = [stage]
        if stage == "train" and not isinstance(self.extractor, PhotoPatches):
            shares: dict[Stage, float] = {"val": self.val_share, "test": self.test_share}
            needed += [name for name, share in shares.items() if share]
        for name in needed:
            if not splits[name]:
                counts = ", ".join(f"{len(found)} for {one}" for one, found in splits.items())
                shares_or = "; give other shares (val_share, test_share), or a split in each record of the captions"
                hint = "" if isinstance(self.captions, dict) else shares_or
                raise ValueError(f"{self.root}: no photo for {name} ({counts}){hint}")

    def _joined(
        self,
        stage: Stage,
        described: _Described,
        features: FeatureStore,
        whole: ImageTextSplit | None = None,
        rows: Array | None = None,
    ) -> ImageTextSplit:
        """A split of some photos; what else is known of them stands in some rows of a larger one."""
        columns = (
            (None, None, None, None) if whole is None else (whole.lengths, whole.boxes, whole.labels, whole.relations)
        )
        lengths, boxes, labels, relations = (
            None if column is None or rows is None else take_rows(column, rows) for column in columns
        )
        return ImageTextSplit(
            features,
            [text for _, texts in described for text in texts],
            np.repeat(np.arange(len(described)), [len(texts) for _, texts in described]),
            image_ids=[photo.name for photo, _ in described],
            pictures=[photo.path if photo.place == photo.path else "" for photo, _ in described],
            names=None if whole is None else whole.names,
            blank_captions="drop",
            name=f"{self.root} ({stage})",
            files={} if self.captions is None else {"captions": str(self._file(stage))},
            lengths=lengths,
            boxes=boxes,
            labels=labels,
            relations=relations,
        )

    def _patches(self, described: _Described, patches: PhotoPatches) -> PatchFeatures:
        """The photos themselves, read when they are asked for."""
        for photo, _ in described:
            if photo.place != photo.path:
                raise ValueError(f"{photo.place}: in an archive, expected a file, of which PhotoPatches can be read")
        return PatchFeatures([Path(photo.path) for photo, _ in described], patches)

    def _file(self, stage: Stage) -> Path | None:
        """The file of the captions of a stage."""
        given = self.captions[stage] if isinstance(self.captions, dict) else self.captions
        if given is None or user_path(given).exists():
            return None if given is None else existing_file(given)
        raise FileNotFoundError(f"{user_path(given)}: no such file; --data.source.captions FILE says where they are")

    def _found(self) -> dict[Stage, _Described]:
        """The photos of each stage, and their captions."""
        if not self.root.exists():
            raise FileNotFoundError(f"{self.root}: no such folder; --data.source.root FOLDER says where the photos are")
        photos = find_photos(self.root)
        found = self._of_files(photos) if isinstance(self.captions, dict) else self._of_file(photos)
        described = {photo.name for some in found.values() for photo, _ in some}
        for line in left_out(photos, described):
            print(f"{self.root}: {line}", file=sys.stderr)
        return found

    def _of_files(self, photos: list[Photo]) -> dict[Stage, _Described]:
        """The photos of each stage, where each has a file of captions of its own."""
        files = {stage: self._file(stage) for stage in _STAGES.values()}
        of_file = {file: _described(photos, file, self.root) for file in dict.fromkeys(files.values())}
        found = {stage: of_file[file] for stage, file in files.items()}
        for stage in (stage for stage in found if stage != "train"):
            held_out = {photo.name for photo, _ in found[stage]}
            for photo, _ in found["train"]:
                if photo.name in held_out:
                    raise ValueError(
                        f"{self._file(stage)}: {shown(photo.name)} is of {stage} and of train, expected one"
                    )
        return found

    def _of_file(self, photos: list[Photo]) -> dict[Stage, _Described]:
        """The photos of each stage, where one file, or what came with the photos, has all captions."""
        file = self._file("train")
        described = _described(photos, file, self.root)
        names = {photo.name for photo, _ in described}
        named = _own_splits(described) if file is None else splits_of(photos, file, names)
        found: dict[Stage, _Described] = {stage: [] for stage in _STAGES.values()}
        for photo, texts in described:
            if named and named[photo.name] not in _STAGES:
                raise ValueError(
                    f"{file or self.root}: {shown(photo.name)} is of split {shown(named[photo.name])}, expected one of "
                    f"{', '.join(_STAGES)}"
                )
            found[_STAGES[named[photo.name]] if named else self._by_hash(photo.name)].append((photo, texts))
        return found

    def _by_hash(self, name: str) -> Stage:
        """The stage of a photo, by its name alone."""
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        return "val" if place < self.val_share else "test" if place < self.val_share + self.test_share else "train"

    def _extracted(self, splits: Mapping[Stage, _Described], extractor: RegionExtractor) -> ImageTextSplit:
        """The regions of all photos that have captions, as a gallery."""
        photos = {photo.name: photo for described in splits.values() for photo, _ in described}
        folder = cached_regions([photos[name] for name in sorted(photos)], extractor, self.cache, self.batch_size)
        unreadable = read_lines(folder / f"{SPLIT}_unreadable.txt")
        if unreadable:
            told = f"{counted(len(unreadable), 'photos')} left out that cannot be read"
            first = unreadable[0].partition("\t")[2]
            print(
                f"{self.root}: {told}, listed in {folder}/{SPLIT}_unreadable.txt; the first is {first}", file=sys.stderr
            )
        return PrecompFolder(folder, test=SPLIT).split("test")


def _own_splits(described: _Described) -> dict[str, str]:
    """The split of each photo of a folder of ``datasets`` that has several; or nothing."""
    found = {photo.name: photo.split for photo, _ in described if photo.split is not None}
    return found if len(set(found.values())) > 1 else {}


def _described(photos: list[Photo], captions: Path | None, root: Path) -> _Described:
    """The photos that have captions, with these."""
    found = with_captions(photos, captions)
    if not found.texts:
        raise ValueError(
            f"{root}: photos without captions; captions=FILE names a json, a csv, or a text of FILE, tab, caption"
        )
    for line in strangers_told(captions, found.strangers):
        print(line, file=sys.stderr)
    return [(photo, found.texts[photo.name]) for photo in found.photos]
