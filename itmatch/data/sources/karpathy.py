"""The ``dataset_*.json`` annotations of Karpathy's splits, with features from an array or from a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from itmatch.data.sources.base import DataSource, Stage
from itmatch.data.sources.features import ArrayFeatures, FeatureStore, FolderFeatures
from itmatch.data.split import ImageTextSplit
from itmatch.formats.arrays import Array, open_array, take_rows
from itmatch.formats.files import read_json, user_path
from itmatch.formats.messages import short, shown, shown_keys
from itmatch.ops.checks import check_choice

KEYS = ("cocoid", "imgid", "filename")
Key = Literal["auto", "cocoid", "imgid", "filename"]


class KarpathyJson(DataSource):
    """Captions and splits from one json file, features from one array or a file an image.

    Args:
        annotations: ``dataset_coco.json``, ``dataset_flickr30k.json`` or one like them.
        features: a ``.npy`` file (N, R, F) whose rows are the images of the json, all splits, in its order; or a
            folder with one (R, F) ``.npy`` file an image, opened when the image is read.
        train: splits to train on, such as ``[train, restval]`` for COCO.
        val: splits to select on.
        test: splits to report.
        key: what names a file of the folder: ``cocoid``, ``imgid``, or ``filename`` without its ending; ``auto`` = the
            first of these for which the images have files; where two of them have, with other files, it is an error.
        boxes: optional ``.npy`` file (N, R, 4) in the order of the json; boxes as fractions of width and height.
        labels: likewise.
        relations: likewise.
        relation_scores: likewise.
    """

    def __init__(
        self,
        annotations: str | Path,
        features: str | Path,
        *,
        train: str | list[str] = "train",
        val: str | list[str] = "val",
        test: str | list[str] = "test",
        key: Key = "auto",
        boxes: str | Path | None = None,
        labels: str | Path | None = None,
        relations: str | Path | None = None,
        relation_scores: str | Path | None = None,
    ) -> None:
        check_choice("key", key, "auto", *KEYS)
        self.annotations, self.features, self.key = user_path(annotations), user_path(features), key
        stages = {"train": train, "val": val, "test": test}
        self.splits = {stage: [names] if isinstance(names, str) else list(names) for stage, names in stages.items()}
        self._columns = {"boxes": boxes, "labels": labels, "relations": relations, "relation_scores": relation_scores}
        self._images: list[dict[str, Any]] | None = None

    def split(self, stage: Stage) -> ImageTextSplit:
        """Read the annotations and open the features of one stage.

        Raises:
            FileNotFoundError: the json, the features or a file of the folder is missing.
            ValueError: the json lacks a key, or the features do not agree with it.
        """
        self._check_stage(stage)
        if self._images is None:
            self._images = read_karpathy(self.annotations)
        images, wanted = self._images, self.splits[stage]
        rows = np.array([i for i, image in enumerate(images) if image["split"] in wanted], np.int64)
        splits = {image["split"] for image in images}
        for name in wanted:
            if name not in splits:
                there = shown_keys(splits)
                raise ValueError(f"{self.annotations}: no image of split {name}; splits there: {there}")
        captions, owners = [], []
        for place, row in enumerate(rows):
            sentences = sentences_of(images[row], f"{self.annotations}: images[{row}]")
            captions += sentences
            owners += [place] * len(sentences)
        return ImageTextSplit(
            self._open_features(rows, images),
            captions,
            np.array(owners, np.int64),
            image_ids=[image_id(images[row], f"{self.annotations}: images[{row}]") for row in rows],
            name=f"{self.annotations} ({'+'.join(wanted)})",
            boxes=self._column("boxes", rows, len(images)),
            labels=self._column("labels", rows, len(images)),
            relations=self._column("relations", rows, len(images)),
            relation_scores=self._column("relation_scores", rows, len(images)),
        )

    def _open_features(self, rows: Array, images: list[dict[str, Any]]) -> FeatureStore:
        if not self.features.is_dir():
            array = open_array(self.features, ndim=3, dtypes=("float16", "float32"))
            self._check_rows(self.features, array, len(images))
            return ArrayFeatures(array, rows=rows, name=str(self.features))
        there = {path.name for path in self.features.iterdir()}
        names = self._file_names(self._find_key(rows, images, there), rows, images)
        first: dict[str, int] = {}
        for row, name in zip(rows, names, strict=True):
            if first.setdefault(name, row) != row:
                raise ValueError(
                    f"{self.annotations}: images[{row}] and images[{first[name]}] have one file of features, {name}"
                )
            if name not in there:
                raise FileNotFoundError(
                    f"{self.features / short(name)}: no such file, for images[{row}] of {self.annotations}"
                )
        return FolderFeatures([self.features / name for name in names])

    def _find_key(self, rows: Array, images: list[dict[str, Any]], there: set[str]) -> str:
        """What names the files: a key that fits the first image, and all of them if several keys fit the first."""
        if self.key != "auto":
            return self.key
        first = images[rows[0]]
        names = {key: file_name(first, key, str(self.annotations)) for key in KEYS if key in first}
        fitting = [key for key, name in names.items() if name in there]
        if not fitting:
            raise FileNotFoundError(
                f"{self.features}: none of {shown_keys(names.values())}, expected one for the first image of "
                f"{self.annotations}"
            )
        if len(fitting) > 1:
            all_names = {
                key: self._file_names(key, rows, images) for key in fitting if all(key in images[row] for row in rows)
            }
            whole = [key for key, files in all_names.items() if there.issuperset(files)]
            if len({tuple(all_names[key]) for key in whole}) > 1:
                raise ValueError(
                    f"{self.features}: its files may be named by {' or by '.join(whole)} of {self.annotations}, which "
                    "differ; say which by key"
                )
            fitting = whole or fitting
        return fitting[0]

    def _file_names(self, key: str, rows: Array, images: list[dict[str, Any]]) -> list[str]:
        return [file_name(images[row], key, f"{self.annotations}: images[{row}]") for row in rows]

    def _column(self, field: str, rows: Array, num_images: int) -> Array | None:
        path = self._columns[field]
        if path is None:
            return None
        array = open_array(path)
        self._check_rows(user_path(path), array, num_images)
        return take_rows(array, rows)

    def _check_rows(self, path: Path, array: Array, num_images: int) -> None:
        if array.ndim == 0 or len(array) != num_images:
            raise ValueError(
                f"{path}: shape {array.shape}, expected {num_images} rows, one an image of {self.annotations}"
            )


def read_karpathy(path: Path) -> list[dict[str, Any]]:
    """The list of images, each known to have a split, a filename and a list of sentences."""
    content = read_json(path)
    images = content.get("images")
    if not isinstance(images, list) or not images:
        raise ValueError(f"{path}: no list 'images'; keys there: {shown_keys(content)}")
    for index, image in enumerate(images):
        for key, kind in (("split", str), ("filename", str), ("sentences", list)):
            if not isinstance(image, dict) or not isinstance(image.get(key), kind):
                raise ValueError(f"{path}: images[{index}] has no {key!r} ({kind.__name__})")
    return images


def sentences_of(image: dict[str, Any], where: str) -> list[str]:
    """The raw sentences of an image, blanks and newlines made single blanks."""
    captions = []
    for index, sentence in enumerate(image["sentences"]):
        raw = text_of(sentence)
        if raw is None:
            raise ValueError(f"{where}.sentences[{index}]: no text in 'raw'")
        captions.append(" ".join(raw.split()))
    if not captions:
        raise ValueError(f"{where}: no sentences")
    return captions


def text_of(sentence: Any) -> str | None:
    """The raw text of a sentence, if there is one."""
    raw = sentence.get("raw") if isinstance(sentence, dict) else None
    return raw if isinstance(raw, str) and raw.strip() else None


def image_id(image: dict[str, Any], where: str) -> str:
    """Name of an image: its ``cocoid``, or the name of its file where it has none."""
    found = image.get("cocoid", image["filename"])
    if type(found) not in (int, str):
        raise ValueError(f"{where}: cocoid is {shown(found)}, expected a whole number or a string")
    return str(found)


def file_name(image: dict[str, Any], key: str, where: str) -> str:
    """Name of the feature file of an image."""
    if key not in image:
        raise ValueError(f"{where} has no {key!r}; keys there: {shown_keys(image)}")
    return f"{Path(image[key]).stem if key == 'filename' else image[key]}.npy"
