"""One split of an image-text dataset: images once, captions with the image each describes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from itmatch.data.batching import validation
from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.items import CaptionItem, ImageItem, Names, item_of
from itmatch.data.reading import read_regions
from itmatch.data.sources.features import ArrayFeatures, FeatureStore
from itmatch.formats.arrays import Array, PickledByFile
from itmatch.formats.messages import counted, shown
from itmatch.ops.checks import check_choice, check_place, check_several

BlankCaptions = Literal["drop", "keep", "refuse"]


class ImageTextSplit(PickledByFile):
    """One split: features, captions, and whatever else is known of the regions.

    Every image is stored once, whatever the number of its captions. Arrays may be memory maps; they are read image by
    image and never copied whole. Everything except the features is validated here; the features of an image are when
    it is read, because that takes reading them.

    A split without captions is a gallery: it can be encoded and searched. What takes pairs, as training and recalls do,
    asks :meth:`check_pairs`.

    Args:
        features: (N, R, F) float16, float32 or float64, or a :class:`FeatureStore`.
        captions: T captions; none for a gallery.
        caption_image: (T,) int, the image that each describes, -1 = none of them: a query to search with. None = -1.
        image_ids: N different names; None = "0", "1", ...
        lengths: (N,) int, regions an image really has; None = all R. An image of 0, in which nothing was detected, gets
            one region of zeros, which is warned of.
        boxes: (N, R, 4) float, x1 y1 x2 y2 as fractions of width and height. A hundredth outside [0, 1], as rounding to
            pixels gives, is accepted and clipped.
        labels: (N, R) int object classes, -1 = unknown.
        relations: (N, K, 3) int, subject region, predicate, object region; a row with a -1 is absent.
        relation_scores: (N, K) float in [0, 1].
        caption_relations: T entries, each (K, 3, 2) int: the characters [start, end) of the caption that are subject,
            predicate and object of K relations; the predicate's are -1, -1 where no words stand for it. Mostly
            :class:`CaptionRelations`. None = captions were not parsed.
        caption_twin: (T,) int, the image that shows the twin scene of the caption's, -1 = none.
        caption_twin_kind: T strings, what the twins differ in ("spatial", "semantic", "").
        pictures: N strings, the path of each image's photo, a drawing of it as SVG, or nothing where there is none.
        names: of the classes of regions and of the predicates, for pictures.
        blank_captions: what is done with captions that have no visible character: ``"drop"`` leaves them out and says
            so, ``"keep"`` takes them for captions without words, ``"refuse"`` raises.
        name: for error messages.
        files: where arguments come from, by their names, for error messages.

    Example:
        >>> dataset = ImageTextSplit(np.ones((1, 36, 8), np.float16), ["a dog runs", "a dog"], np.array([0, 0]))
        >>> dataset.num_images, dataset.num_captions, dataset.image(0).features.dtype, dataset.caption(1).text
        (1, 2, torch.float16, 'a dog')
        >>> ImageTextSplit(np.ones((1, 36, 8), np.float16))
        ImageTextSplit(dataset: 1 image, 0 captions)
    """

    def __init__(
        self,
        features: Array | FeatureStore,
        captions: Sequence[str] = (),
        caption_image: Array | None = None,
        *,
        image_ids: Sequence[str] | None = None,
        lengths: Array | None = None,
        boxes: Array | None = None,
        labels: Array | None = None,
        relations: Array | None = None,
        relation_scores: Array | None = None,
        caption_relations: Sequence[Any] | None = None,
        caption_twin: Array | None = None,
        caption_twin_kind: Sequence[str] | None = None,
        pictures: Sequence[str] | None = None,
        names: Names | None = None,
        blank_captions: BlankCaptions = "refuse",
        name: str = "",
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name or "dataset"
        self._files = {} if files is None else files
        self.features = (
            features if isinstance(features, FeatureStore) else ArrayFeatures(features, name=self._where("features"))
        )
        self.captions = list(check_several("captions", captions))
        owners = np.full(len(self.captions), -1) if caption_image is None else caption_image
        self.caption_image = self._caption_column("caption_image", owners, lowest=-1)
        ids = map(str, range(self.num_images)) if image_ids is None else check_several("image_ids", image_ids)
        self.image_ids = list(ids)
        columns = (None if given is None else np.asanyarray(given) for given in (lengths, boxes, labels, relations))
        self.lengths, self.boxes, self.labels, self.relations = columns
        self.relation_scores = None if relation_scores is None else np.asanyarray(relation_scores)
        self.caption_relations = (
            None
            if caption_relations is None
            else CaptionRelations.pack(caption_relations, self._where("caption_relations"))
        )
        self.caption_twin = (
            None if caption_twin is None else self._caption_column("caption_twin", caption_twin, lowest=-1)
        )
        self.caption_twin_kind = None if caption_twin_kind is None else list(caption_twin_kind)
        self.pictures = check_several("pictures", pictures)
        self.names = Names() if names is None else names
        self._validate(blank_captions)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.features)

    @property
    def num_captions(self) -> int:
        """T."""
        return len(self.captions)

    @property
    def feature_dim(self) -> int:
        """F, numbers a region."""
        return self.features.feature_dim

    def __repr__(self) -> str:
        counts = f"{counted(self.num_images, 'images')}, {counted(self.num_captions, 'captions')}"
        return f"ImageTextSplit({self.name}: {counts})"

    def check_pairs(self, what: str) -> None:
        """Raise unless there are captions, each of an image: what training and recalls need.

        Args:
            what: what needs them, for the message.

        Raises:
            ValueError: names the file that there is not, or the first caption that describes no image.
        """
        where = self._where("captions")
        if not self.captions:
            lacking = "no such file" if "captions" in self._files and not Path(where).exists() else "no captions"
            told = f"{lacking}, so the split is a gallery, which can be encoded and searched (itmatch predict)"
        elif (self.caption_image < 0).any():
            first = int(self.caption_image.argmin())
            told = f"caption {first} ({shown(self.captions[first])}) is of no image: a query, to search with"
        else:
            return
        raise ValueError(f"{where}: {told}; {what} needs captions of images")

    def image(self, index: int) -> ImageItem:
        """Read one image.

        Raises:
            ValueError: its features hold a NaN or an infinity.
        """
        index = check_place(f"{self.name}: image", index, self.num_images)
        return item_of(index, read_regions(self, [index]))

    def picture(self, index: int) -> str | None:
        """The path of the photo of an image, or a drawing of it (SVG, it begins with ``<svg``), or None."""
        index = check_place(f"{self.name}: picture", index, self.num_images)
        return None if self.pictures is None else self.pictures[index] or None

    def caption(self, index: int) -> CaptionItem:
        """One caption and the image that it describes."""
        index = check_place(f"{self.name}: caption", index, self.num_captions)
        relations = None
        if self.caption_relations is not None:
            relations = torch.from_numpy(self.caption_relations[index].astype(np.int64))
        return CaptionItem(index, int(self.caption_image[index]), self.captions[index], relations)

    def _caption_column(self, field: str, values: Array, *, lowest: int) -> Array:
        values = np.asarray(values)
        if values.shape != (self.num_captions,) or values.dtype.kind not in "iu":
            raise ValueError(
                f"{self._where(field)}: {values.dtype} of shape {values.shape}, expected integers of shape "
                f"({self.num_captions},)"
            )
        bad = np.flatnonzero((values < lowest) | (values >= self.num_images))
        if len(bad):
            raise ValueError(
                f"{self._where(field)}: caption {bad[0]} names image {values[bad[0]]}, "
                f"expected {lowest}..{self.num_images - 1}"
            )
        return values.astype(np.int64)

    def _leave_out_blank(self) -> None:
        """Leave blank captions out of all that has an entry per caption, and say so."""
        visible = np.array([not isinstance(text, str) or validation.is_visible(text) for text in self.captions])
        if visible.all():
            return
        where, keeps = self._where("captions"), "blank_captions: keep takes them"
        alone = np.setdiff1d(self.caption_image[self.caption_image >= 0], self.caption_image[visible])
        if len(alone):
            raise ValueError(f"{where}: image {self.image_ids[alone[0]]!r} has blank captions alone; {keeps}")
        owner = int(self.caption_image[first := int(visible.argmin())])
        in_file = "captions" in self._files
        told = f"{where}:{first + 1}" if in_file else where  # lines count from 1, captions from 0
        told += f": blank and left out: {int((~visible).sum())} of {len(visible)} captions, the first is "
        told += "on this line" if in_file else f"caption {first}"
        told += "" if owner < 0 else f" (image {self.image_ids[owner]!r})"
        warnings.warn(f"{told}; {keeps}", stacklevel=5)
        kept = np.flatnonzero(visible)
        if self.caption_relations is not None and len(self.caption_relations) == len(visible):
            self.caption_relations = CaptionRelations.pack([self.caption_relations[i] for i in kept])
        self.captions = [self.captions[i] for i in kept]
        self.caption_image = self.caption_image[kept]
        self.caption_twin = None if self.caption_twin is None else self.caption_twin[kept]
        self.caption_twin_kind = self.caption_twin_kind and [self.caption_twin_kind[i] for i in kept]

    def _validate(self, blank_captions: BlankCaptions) -> None:
        check_choice("blank_captions", blank_captions, "drop", "keep", "refuse")
        shape = (self.num_images, self.features.num_regions)
        if len(self.image_ids) != self.num_images:
            raise ValueError(
                f"{self._where('image_ids')}: {counted(len(self.image_ids), 'ids')} for "
                f"{counted(self.num_images, 'images')}"
            )
        if self.num_images == 0:
            raise ValueError(f"{self.name}: no images and {self.num_captions} captions, expected images")
        if self.pictures is not None and len(self.pictures) != self.num_images:
            raise ValueError(f"{self._where('pictures')}: {len(self.pictures)} for {self.num_images} images")
        if self.caption_twin_kind is not None and len(self.caption_twin_kind) != self.num_captions:
            raise ValueError(
                f"{self._where('caption_twin_kind')}: {len(self.caption_twin_kind)} for {self.num_captions} captions"
            )
        if blank_captions == "drop":
            self._leave_out_blank()
        listed = {field: field not in self._files for field in ("captions", "image_ids")}
        checks = [
            validation.caption_problems(
                self.captions, self._where("captions"), blank=blank_captions == "keep", listed=listed["captions"]
            ),
            validation.id_problems(self.image_ids, self._where("image_ids"), listed=listed["image_ids"]),
        ]
        if self.lengths is not None:
            checks.append(validation.length_problems(self.lengths, *shape, self._where("lengths"), least=0))
        if self.boxes is not None:
            checks.append(validation.box_problems(self.boxes, *shape, self._where("boxes"), self.lengths))
        if self.labels is not None:
            checks.append(validation.label_problems(self.labels, *shape, self._where("labels")))
        if self.relations is not None:
            checks.append(validation.relation_problems(self.relations, *shape, self._where("relations"), self.lengths))
        if self.relation_scores is not None:
            checks.append(
                validation.score_problems(self.relation_scores, self.relations, self._where("relation_scores"))
            )
        if self.caption_relations is not None:
            checks.append(self.caption_relations.problems(self.captions, self._where("caption_relations")))
        for problem in chain.from_iterable(checks):
            raise ValueError(problem)
        empty = 0 if self.lengths is None else int((self.lengths == 0).sum())
        if empty:
            warnings.warn(f"{self.name}: {counted(empty, 'images')} without regions get one of zeros", stacklevel=4)

    def _where(self, field: str) -> str:
        return self._files.get(field, f"{self.name}: {field}")
