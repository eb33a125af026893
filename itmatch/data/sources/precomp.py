"""The folder of precomputed region features that SCAN introduced and its successors share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.sources.base import DataSource, Stage
from itmatch.data.sources.features import ArrayFeatures
from itmatch.data.sources.layout import Layout, find_layout, per_image
from itmatch.data.split import ImageTextSplit
from itmatch.formats.arrays import Array, open_array
from itmatch.formats.files import read_json, user_path
from itmatch.formats.text import read_lines

BOX_FILES = ("boxes", "ims_bbx")
SIZE_FILES = ("sizes", "ims_size")


class PrecompFolder(DataSource):
    """A folder of ``{split}_ims.npy``, ``{split}_caps.txt`` and, where they exist, more about the regions.

    ======================================  ==========================================================================
    ``{split}_ims.npy``                     (N, R, F) float16 or float32; one row an image, or one a caption (then
                                            equal rows follow each other, and each image is kept once)
    ``{split}_caps.txt``                    T captions, a line each, those of an image together
    ``{split}_ids.txt``                     N image ids, or T with those of an image equal. T ids that all differ
                                            are ids of captions and are passed over
    ``{split}_lengths.npy``                 (N,) int, regions that an image really has
    ``{split}_boxes.npy`` or ``_ims_bbx``   (N, R, 4) x1 y1 x2 y2, as fractions or in pixels
    ``{split}_sizes.npy`` or ``_ims_size``  (N, 2) width and height, needed when boxes are in pixels
    ``{split}_{labels}.npy``                (N, R) int object class, -1 = unknown
    ``{split}_{relations}.npy``             (N, K, 3) int subject, predicate, object; a row with -1 is absent
    ``{split}_{relation_scores}.npy``       (N, K) float in [0, 1]
    ``{split}_{caption_relations}.npz``     relations of the captions, as ``itmatch data parse`` writes them
                                            (:class:`CaptionRelations`)
    ``predicates.json``                     list of names; only ``num_predicates`` reads it
    ======================================  ==========================================================================

    Args:
        root: the folder.
        train: name of the split to train on.
        val: name of the split to select on.
        test: name of the split to report (``testall`` for the 5K images of COCO).
        captions_per_image: None = found from the files; otherwise they have to agree with it.
        labels: middle of the name of the label file; None = do not read one.
        relations: likewise for the relations.
        relation_scores: likewise for the confidences of the relations; not read without relations.
        caption_relations: likewise for the relations of the captions. The file holds a hash of the captions that it
            was made for; with other ones it is an error.

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
        labels: str | None = "labels",
        relations: str | None = "relations",
        relation_scores: str | None = "relation_scores",
        caption_relations: str | None = "caption_relations",
    ) -> None:
        self.root = user_path(root)
        self.splits: dict[str, str] = {"train": train, "val": val, "test": test}
        self.captions_per_image = captions_per_image
        self.labels = labels
        self.relations = relations
        self.relation_scores = relation_scores if relations is not None else None
        self.caption_relations = caption_relations

    @property
    def num_predicates(self) -> int | None:
        """Number of names in ``predicates.json``, or None where the folder has none."""
        path = self.root / "predicates.json"
        return len(read_json(path, list)) if path.exists() else None

    def split(self, stage: Stage) -> ImageTextSplit:
        """Open the files of one split.

        Raises:
            FileNotFoundError: the folder or one of its files is missing.
            ValueError: a file is no good, or files do not agree.
        """
        self._check_stage(stage)
        name = self.splits[stage]
        where = self.root / name
        features = open_array(self._features_file(name), ndim=3, dtypes=("float16", "float32"))
        captions = read_lines(f"{where}_caps.txt")
        ids_file = Path(f"{where}_ids.txt")
        ids = [line.strip() for line in read_lines(ids_file)] if ids_file.exists() else None
        layout = find_layout(features, len(captions), ids, self.captions_per_image, str(where))
        captions = [caption.strip() for caption in captions]
        relations = self._column(where, self.relations, "relations", layout, len(features))
        return ImageTextSplit(
            ArrayFeatures(features, rows=layout.rows, name=f"{where}_ims.npy"),
            captions,
            layout.caption_image,
            image_ids=layout.image_ids,
            lengths=self._column(where, "lengths", "lengths", layout, len(features)),
            boxes=self._boxes(where, layout, len(features)),
            labels=self._column(where, self.labels, "labels", layout, len(features)),
            relations=relations,
            relation_scores=None
            if relations is None
            else self._column(where, self.relation_scores, "relation_scores", layout, len(features)),
            caption_relations=self._caption_relations(where, captions),
            name=str(where),
            files={"captions": f"{where}_caps.txt", "image_ids": str(ids_file)},
        )

    def _features_file(self, name: str) -> Path:
        path = self.root / f"{name}_ims.npy"
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root}: no such folder")
        if not path.exists():
            there = ", ".join(found_splits(self.root)) or "none"
            raise FileNotFoundError(f"{path}: no such file; splits in this folder: {there}")
        return path

    def _boxes(self, where: Path, layout: Layout, rows: int) -> Array | None:
        boxes_file = first_file(where, BOX_FILES)
        if boxes_file is None:
            return None
        boxes = per_image(open_array(boxes_file, ndim=3, dtypes=("float",)), layout, rows, boxes_file)
        return as_fractions(boxes, where, layout, rows)

    def _caption_relations(self, where: Path, captions: list[str]) -> CaptionRelations | None:
        if self.caption_relations is None:
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


def first_file(where: Path, stems: tuple[str, ...]) -> Path | None:
    """The first of the files ``{where}_{stem}.npy`` that exists."""
    return next((path for stem in stems if (path := Path(f"{where}_{stem}.npy")).exists()), None)


def as_fractions(boxes: Array, where: Path, layout: Layout, rows: int) -> Array:
    """Boxes as fractions; those with a coordinate far above 1 are in pixels, and need the sizes of the images."""
    if boxes.ndim != 3 or not boxes.size or float(np.nanmax(boxes, initial=0)) <= 2:
        return boxes
    path = first_file(where, SIZE_FILES)
    if path is None:
        raise ValueError(f"{where}: boxes in pixels, which needs {where}_sizes.npy of (images, width and height)")
    return _fractions(boxes, per_image(open_array(path, ndim=2), layout, rows, path), path)


def _fractions(boxes: Array, sizes: Array, path: Path) -> Array:
    """(N, R, 4) boxes in pixels as fractions of (N, 2) widths and heights."""
    if sizes.shape != (len(boxes), 2) or sizes.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {sizes.dtype} of shape {sizes.shape}, expected numbers of shape ({len(boxes)}, 2)")
    with np.errstate(over="ignore"):
        sides = sizes.astype(np.float32)
    good = ((sides > 0) & (sides < np.inf)).all(1)  # False for NaN
    if not good.all():
        image = int(good.argmin())
        raise ValueError(
            f"{path}: image {image} has size {sizes[image].tolist()}, expected a positive, finite width and height"
        )
    with np.errstate(over="ignore"):  # an infinite box is told of where boxes are checked
        result: Array = boxes.astype(np.float32)
    result /= np.tile(sides, 2)[:, None]
    return result
