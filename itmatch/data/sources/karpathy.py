"""Json files of captions, Karpathy's or COCO's own, with features from an array or from a folder of files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from itmatch.data.sources.base import DataSource, Stage
from itmatch.data.sources.caption_json import KEYS, AnnotatedImage, read_annotations, without_sentences
from itmatch.data.sources.features import ArrayFeatures, FeatureStore, FileFeatures, FolderFeatures, open_features
from itmatch.data.split import BlankCaptions, ImageTextSplit
from itmatch.formats.arrays import Array, open_array, take_rows
from itmatch.formats.features.base import Grid, stem_of
from itmatch.formats.features.opening import how_to_convert, layout_of, open_regions
from itmatch.formats.features.photo_files import files_of
from itmatch.formats.files import user_path
from itmatch.formats.messages import short, shown_keys
from itmatch.ops.checks import check_choice, check_whole_or_none

Key = Literal["auto", "cocoid", "imgid", "filename"]
_T = TypeVar("_T")
_NAMED = 3  # images without features that are named


class KarpathyJson(DataSource):
    """Captions and splits from json, features from one array or one file per image.

    Args:
        annotations: ``dataset_coco.json``, ``dataset_flickr30k.json`` or one like them. Or COCO's own file of captions,
            whose split is what its name says (``train2014`` for ``captions_train2014.json``), or of images alone
            (``image_info_test2014.json``). Or a list of such files. A split of which no image has a caption is a
            gallery.
        features: a ``.npy`` file (N, R, F) whose rows are the images of the json, all splits, in its order (vectors and
            grids as :class:`PrecompFolder` takes them); a folder with one (R, F) ``.npy`` or ``.npz`` file per image,
            opened when the image is read; or a HDF5 file.
        train: splits to train on, such as ``[train, restval]`` for COCO.
        val: splits to select on.
        test: splits to report.
        key: what names a file of the folder: ``cocoid``, ``imgid``, or ``filename`` without its ending; ``auto`` = the
            one for which most images have files; where two of them have, with other files, it is an error.
        captions_per_image: take the first so many captions of an image that has more, as the precomputed folders of
            COCO do (5; some of its images have 6 or 7); None = all.
        blank_captions: what is done with captions that have no visible character: ``"drop"`` leaves them out and says
            so (they do not count as one of ``captions_per_image``), ``"keep"`` takes them for captions without words,
            ``"refuse"`` raises.
        boxes: optional ``.npy`` file (N, R, 4) in the order of the json; boxes as fractions of width and height.
        labels: likewise.
        relations: likewise.
        relation_scores: likewise.
        grid: which of the sizes of a grid is F, where it cannot be seen.
        missing: images that have no file of features: ``"error"``, or ``"drop"``, which leaves them out with their
            captions and says so.
    """

    def __init__(
        self,
        annotations: str | Path | list[str],
        features: str | Path,
        *,
        train: str | list[str] = "train",
        val: str | list[str] = "val",
        test: str | list[str] = "test",
        key: Key = "auto",
        captions_per_image: int | None = None,
        blank_captions: BlankCaptions = "drop",
        boxes: str | Path | None = None,
        labels: str | Path | None = None,
        relations: str | Path | None = None,
        relation_scores: str | Path | None = None,
        grid: Grid | None = None,
        missing: Literal["error", "drop"] = "error",
    ) -> None:
        check_choice("key", key, "auto", *KEYS)
        self.missing = check_choice("missing", missing, "error", "drop")
        check_whole_or_none("captions_per_image", captions_per_image)
        self.annotations = annotations
        self._paths = [user_path(path) for path in (annotations if isinstance(annotations, list) else [annotations])]
        self._where = ", ".join(map(str, self._paths))
        self.features, self.key, self.grid = user_path(features), key, grid
        self.captions_per_image, self.blank_captions = captions_per_image, blank_captions
        stages = {"train": train, "val": val, "test": test}
        self.splits = {stage: [names] if isinstance(names, str) else list(names) for stage, names in stages.items()}
        self._columns = {"boxes": boxes, "labels": labels, "relations": relations, "relation_scores": relation_scores}
        self._images: list[AnnotatedImage] | None = None

    def split(self, stage: Stage) -> ImageTextSplit:
        """Read the annotations and open the features of one stage.

        Raises:
            FileNotFoundError: the json, the features or a file of the folder is missing.
            ValueError: the json lacks a key, or the features do not agree with it.
        """
        self._check_stage(stage)
        if self._images is None:
            self._images = read_annotations(self._paths)
        images, wanted = self._images, self.splits[stage]
        rows = np.array([i for i, image in enumerate(images) if image.split in wanted], np.int64)
        splits = {image.split for image in images}
        for name in wanted:
            if name not in splits:
                there = shown_keys(splits)
                raise ValueError(f"{self._where}: no image of split {name}; splits there: {there}")
        for problem in without_sentences([images[row] for row in rows]):
            raise ValueError(problem)
        rows, features = self._open_features(rows, images)
        captions: list[str] = []
        owners: list[int] = []
        for place, row in enumerate(rows):
            found = images[row].captions(self.captions_per_image, count_blank=self.blank_captions != "drop")
            captions += found
            owners += [place] * len(found)
        return ImageTextSplit(
            features,
            captions,
            np.array(owners, np.int64),
            image_ids=[images[row].image_id for row in rows],
            blank_captions=self.blank_captions,
            name=f"{self._where} ({'+'.join(wanted)})",
            boxes=self._column("boxes", rows, len(images)),
            labels=self._column("labels", rows, len(images)),
            relations=self._column("relations", rows, len(images)),
            relation_scores=self._column("relation_scores", rows, len(images)),
        )

    def _open_features(self, rows: Array, images: list[AnnotatedImage]) -> tuple[Array, FeatureStore]:
        """The images that have features, and these."""
        if not self.features.is_dir():
            if self.features.suffix != ".npy" and self.features.exists():
                return self._open_file(rows, images)
            array = open_features(self.features, self.grid)
            self._check_rows(self.features, array, len(images))
            return rows, ArrayFeatures(array, rows=rows, name=str(self.features))
        there = {f"{stem_of(path)}.npy": path for path in files_of(self.features)}
        rows, found = self._found(rows, images, there)
        return rows, FolderFeatures(found, self.grid)

    def _open_file(self, rows: Array, images: list[AnnotatedImage]) -> tuple[Array, FeatureStore]:
        """Features of a HDF5 file, whose photos are named as files would be."""
        if layout_of(self.features) != "HDF5":
            raise ValueError(f"{self.features}: {how_to_convert(self.features)}")
        reader = open_regions([self.features], grid=self.grid)
        places = {f"{name}.npy": place for place, name in enumerate(reader.names)}
        rows, found = self._found(rows, images, places)
        return rows, FileFeatures(reader, found)

    def _found(self, rows: Array, images: list[AnnotatedImage], there: Mapping[str, _T]) -> tuple[Array, list[_T]]:
        """The images that there is something for, and what, by the names that files of features would have.

        Raises:
            FileNotFoundError: there is nothing for some images, unless they are left out; says for how many, and for
                which first.
            ValueError: two images have one name, or it cannot be seen what names the images.
        """
        chosen = [images[row] for row in rows]
        key = self._find_key(chosen, there) if self.key == "auto" else self.key
        names = [image.feature_file(key) for image in chosen]
        first: dict[str, int] = {}
        for row, name in zip(rows, names, strict=True):
            if first.setdefault(name, row) != row:
                raise ValueError(f"{images[row].where}: its file of features is that of images[{first[name]}], {name}")
        lacking = [
            f"{short(name.removesuffix('.npy'))} (images[{row}])"
            for row, name in zip(rows, names, strict=True)
            if name not in there
        ]
        if lacking:
            some = ", ".join(lacking[:_NAMED]) + ", ..." * (len(lacking) > _NAMED)
            if self.missing == "error":
                raise FileNotFoundError(
                    f"{self.features}: no features of {len(lacking)} of the {len(names)} images that were asked for: "
                    f"{some}, by the {key} in {self._where}; missing='drop' leaves them out"
                )
            told = f"{len(lacking)} of the {len(names)} images have no features and are left out: {some}"
            warnings.warn(f"{self.features}: {told}", stacklevel=4)
        kept = [place for place, name in enumerate(names) if name in there]
        return rows[kept], [there[names[place]] for place in kept]

    def _find_key(self, images: list[AnnotatedImage], there: Mapping[str, Any]) -> str:
        """What names the features: the key by which most images have some; the first of those that agree."""
        keys = [key for key in KEYS if any(key in image.names for image in images)]
        names = {key: [image.feature_file(key) for image in images if key in image.names] for key in keys}
        counts = {key: sum(name in there for name in names[key]) for key in keys}
        most = max(counts.values())
        if most == 0:
            expected = shown_keys(images[0].feature_file(key).removesuffix(".npy") for key in images[0].names)
            expected += " (.npy or .npz)" if self.features.is_dir() else ""
            raise FileNotFoundError(
                f"{self.features}: no features of any of the {len(images)} images that were asked for: none of "
                f"{expected}, as the first of them in {self._where} may be called"
            )
        best = [key for key in keys if counts[key] == most]
        if most == len(images) and any(names[key] != names[best[0]] for key in best):
            raise ValueError(
                f"{self.features}: its files may be named by {' or by '.join(best)} of {self._where}, which "
                "differ; say which by key"
            )
        return best[0]

    def _column(self, field: str, rows: Array, num_images: int) -> Array | None:
        path = self._columns[field]
        if path is None:
            return None
        array = open_array(path)
        self._check_rows(user_path(path), array, num_images)
        return take_rows(array, rows)

    def _check_rows(self, path: Path, array: Array, num_images: int) -> None:
        if array.ndim == 0 or len(array) != num_images:
            raise ValueError(f"{path}: shape {array.shape}, expected {num_images} rows, one per image of {self._where}")
