"""The folder of precomputed region features that SCAN introduced and its successors share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.items import Names
from itmatch.data.sources.base import DataSource, Stage
from itmatch.data.sources.boxes import open_boxes
from itmatch.data.sources.extracted import extractor_beside, same_extractor
from itmatch.data.sources.features import ArrayFeatures, open_features
from itmatch.data.sources.galleries import gallery_layout, read_texts
from itmatch.data.sources.layout import Layout, find_layout, per_image
from itmatch.data.sources.photos import photos_of
from itmatch.data.split import BlankCaptions, ImageTextSplit
from itmatch.formats.arrays import Array, open_array, take_rows
from itmatch.formats.features.base import Grid
from itmatch.formats.features.opening import how_to_convert
from itmatch.formats.files import read_json, user_path
from itmatch.formats.text import read_lines
from itmatch.ops.checks import check_choice


class PrecompFolder(DataSource):
    """A folder of ``{split}_ims.npy``, ``{split}_caps.txt`` and, where they exist, more about the regions.

    ======================================  ==========================================================================
    ``{split}_ims.npy``                     (N, R, F) float16, float32 or float64; (N, F), a vector per image; or a grid
                                            (N, H, W, F). One row per image, or one per caption (then equal rows follow
                                            each other, and each image is kept once)
    ``{split}_caps.txt``                    T captions, a line each, those of an image together; without this file the
                                            split is a gallery, which can be encoded and searched
    ``{split}_queries.txt``                 texts to search a gallery with, a line each, of none of its images
    ``{split}_ids.txt``                     N image ids, or T with those of an image equal, which then may have
                                            different numbers of captions. T ids that all differ are ids of captions
                                            and are passed over
    ``{split}_lengths.npy``                 (N,) int, regions that an image really has; 0 = nothing was detected
    ``{split}_boxes.npy`` or ``_ims_bbx``   (N, R, 4) x1 y1 x2 y2, as fractions or in pixels
    ``{split}_sizes.npy`` or ``_ims_size``  (N, 2) width and height, needed when boxes are in pixels; or N records or
                                            pickled dicts of ``image_w`` and ``image_h``, as GSMN has them
    ``{split}_{labels}.npy``                (N, R) int object class, -1 = unknown
    ``{split}_{relations}.npy``             (N, K, 3) int subject, predicate, object; a row with -1 is absent
    ``{split}_{relation_scores}.npy``       (N, K) float in [0, 1]
    ``{split}_{caption_relations}.npz``     relations of the captions, as ``itmatch data parse`` writes them
                                            (:class:`CaptionRelations`)
    ``{split}_extractor.json``              what has made the features, as ``itmatch extract`` notes it; a model that is
                                            trained on them then takes photos
    ``predicates.json``, ``labels.json``    lists of names, for ``num_predicates`` and for pictures
    ======================================  ==========================================================================

    Args:
        root: the folder.
        train: name of the split to train on.
        val: name of the split to select on.
        test: name of the split to report (``testall`` for the 5K images of COCO).
        captions_per_image: None = found from the files; otherwise they have to agree with it.
        blank_captions: what is done with lines of the captions that have no visible character: ``"drop"`` leaves them
            out and says so, ``"keep"`` takes them for captions without words, ``"refuse"`` raises.
        boxes: None = open neither boxes nor sizes, for a system that needs none; otherwise the middle of the name of
            the file of boxes.
        labels: middle of the name of the label file; None = do not read one.
        relations: likewise for the relations.
        relation_scores: likewise for the confidences of the relations; not read without relations.
        caption_relations: likewise for the relations of the captions. The file holds a hash of the captions that it
            was made for; with other ones it is an error.
        without_regions: images with a length of 0 get one region of zeros, or are left out with their captions.
        grid: which of the sizes of a grid is F, where it cannot be seen.
        photos: folder of the photos, for pictures alone; their files are named by the ids of the images, or as
            ``id_mapping.json`` in ``root`` says. None = there are none.

    A file with a default name may be missing; one that was asked for by another name may not.
    """

    def __init__(
        self,
        root: str | Path,
        train: str = "train",
        val: str = "dev",
        test: str = "test",
        *,
        captions_per_image: int | None = None,
        blank_captions: BlankCaptions = "drop",
        boxes: str | None = "boxes",
        labels: str | None = "labels",
        relations: str | None = "relations",
        relation_scores: str | None = "relation_scores",
        caption_relations: str | None = "caption_relations",
        without_regions: Literal["zeros", "drop"] = "zeros",
        grid: Grid | None = None,
        photos: str | Path | None = None,
    ) -> None:
        check_choice("without_regions", without_regions, "zeros", "drop")
        self.root = user_path(root)
        self.splits: dict[str, str] = {"train": train, "val": val, "test": test}
        self.captions_per_image = captions_per_image
        self.blank_captions = blank_captions
        self.boxes, self.labels = boxes, labels
        self.relations = relations
        self.relation_scores = relation_scores if relations is not None else None
        self.caption_relations = caption_relations
        self.without_regions, self.grid = without_regions, grid
        self.photos = photos

    @property
    def num_predicates(self) -> int | None:
        """Number of names in ``predicates.json``, or None where the folder has none."""
        return len(self._names("predicates")) if (self.root / "predicates.json").exists() else None

    def _pictures(self, layout: Layout, ids_file: Path) -> list[str] | None:
        if self.photos is None:
            return None
        if layout.image_ids is None:
            raise ValueError(f"{ids_file}: no ids of images in it, or no such file; photos are found by their ids")
        return photos_of(layout.image_ids, self.photos, self.root)

    def _names(self, what: str) -> list[str]:
        path = self.root / f"{what}.json"
        return list(map(str, read_json(path, list))) if path.exists() else []

    def split(self, stage: Stage) -> ImageTextSplit:
        """Open the files of one split.

        Raises:
            FileNotFoundError: the folder or one of its files is missing.
            ValueError: a file is no good, or files do not agree.
        """
        self._check_stage(stage)
        name = self.splits[stage]
        where = self.root / name
        features = open_features(self._features_file(name), self.grid)
        self.extractor = same_extractor(self.extractor, extractor_beside(where), where)
        texts = read_texts(where)
        captions = texts.lines
        ids_file = Path(f"{where}_ids.txt")
        ids = [line.strip() for line in read_lines(ids_file)] if ids_file.exists() else None
        if texts.describe:
            layout = find_layout(features, len(captions), ids, self.captions_per_image, str(where))
        else:
            layout = gallery_layout(features, len(captions), ids, str(where))
        columns = {
            "lengths": self._column(where, "lengths", "lengths", layout, len(features)),
            "boxes": None if self.boxes is None else open_boxes(where, layout, len(features), self.boxes),
            "labels": self._column(where, self.labels, "labels", layout, len(features)),
            "relations": self._column(where, self.relations, "relations", layout, len(features)),
        }
        if columns["relations"] is not None:
            columns["relation_scores"] = self._column(
                where, self.relation_scores, "relation_scores", layout, len(features)
            )
        caption_relations: Sequence[Any] | None = self._caption_relations(where, captions)
        lengths = columns["lengths"]
        if self.without_regions == "drop" and lengths is not None and not lengths.all():
            layout, images, places = layout.without(lengths == 0)
            columns = {name: None if column is None else take_rows(column, images) for name, column in columns.items()}
            captions = [captions[place] for place in places]
            caption_relations = caption_relations and [caption_relations[place] for place in places]
        return ImageTextSplit(
            ArrayFeatures(features, rows=layout.rows, name=f"{where}_ims.npy"),
            captions,
            layout.caption_image,
            image_ids=layout.image_ids,
            caption_relations=caption_relations,
            blank_captions=self.blank_captions,
            name=str(where),
            lengths=columns["lengths"],
            boxes=columns["boxes"],
            labels=columns["labels"],
            relations=columns["relations"],
            relation_scores=columns.get("relation_scores"),
            pictures=self._pictures(layout, ids_file),
            names=Names(self._names("labels"), self._names("predicates")),
            files={"captions": str(texts.path), "image_ids": str(ids_file)},
        )

    def _features_file(self, name: str) -> Path:
        path = self.root / f"{name}_ims.npy"
        if not self.root.is_dir():
            hint = (
                f"a file, expected a folder; {how_to_convert(self.root)}"
                if self.root.exists()
                else "no such folder; --data.source.root FOLDER says where the data are"
            )
            raise FileNotFoundError(f"{self.root}: {hint}")
        if not path.exists():
            there = ", ".join(found_splits(self.root))
            hint = f"splits in this folder: {there}" if there else how_to_convert(self.root)
            raise FileNotFoundError(f"{path}: no such file; {hint}")
        return path

    def _caption_relations(self, where: Path, captions: list[str]) -> CaptionRelations | None:
        if self.caption_relations is None or not captions:
            return None
        path = Path(f"{where}_{self.caption_relations}.npz")
        if self.caption_relations == "caption_relations" and not path.exists():
            return None
        return CaptionRelations.load(path, captions)

    def _column(self, where: Path, stem: str | None, default: str, layout: Layout, rows: int) -> Array | None:
        if stem is None:
            return None
        path = Path(f"{where}_{stem}.npy")
        if stem == default and not path.exists():
            return None
        return per_image(open_array(path), layout, rows, path)


def found_splits(root: Path) -> list[str]:
    """Names of the splits that a folder holds features or captions of."""
    names = {p.name[: -len("_ims.npy")] for p in root.glob("*_ims.npy")}
    return sorted(names | {p.name[: -len("_caps.txt")] for p in root.glob("*_caps.txt")})
