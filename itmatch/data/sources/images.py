"""Photos as files, read when they are asked for: their patches of pixels in the place of region features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from itmatch.data.sources.base import DataSource, Stage
from itmatch.data.sources.features import FeatureStore
from itmatch.data.sources.galleries import read_texts
from itmatch.data.sources.layout import lists_in, mapping_beside, owners_of
from itmatch.data.sources.patches import PhotoPatches
from itmatch.data.split import ImageTextSplit
from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.messages import shown
from itmatch.formats.photos import PHOTO_ENDINGS, image_module, photo_size
from itmatch.formats.text import read_lines

MOST_LETTERS = 500  # of the name of a file
_SPLITS = {"train": "train", "val": "dev"}


class PatchFeatures(FeatureStore):
    """The patches of image files: (P, 3 p p) pixel values of P patches, row after row of the grid.

    Photos are read by :func:`itmatch.formats.photos.open_photo`.

    Args:
        paths: the files, in image order.
        patches: makes them.
    """

    def __init__(self, paths: Sequence[Path], patches: PhotoPatches) -> None:
        image_module()  # a missing package is told of now
        self.paths, self.patches = list(paths), patches
        self.feature_dim, self.num_regions = self.patches.feature_dim, self.patches.num_regions

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Array:
        return self.patches.patches(self.paths[index])

    def boxes(self, index: int) -> Array:
        """(P, 4) x1 y1 x2 y2 of the patches, as fractions of the width and height of the photo."""
        return self.patches.boxes(*photo_size(self.paths[index]))


class ImageFolder(DataSource):
    """Photos and captions: ``{split}_ids.txt`` (a file name a line), ``{split}_caps.txt`` (captions in that order).

    The splits are called train, dev and test: the layout of precomputed features with the photos in the place of the
    features. Either every image has as many captions as the others of its split, or there is an id per caption.

    A split without ``{split}_caps.txt`` is a gallery, which can be encoded and searched, with the texts of
    ``{split}_queries.txt`` where there are some. A folder without any such list is a gallery of all its photos.

    With ``id_mapping.json`` in the folder, ids stand for the files that it names, as VSE-infinity and LAPS have it; the
    lists may then lie in ``precomp`` and the photos in ``images`` or ``flickr30k-images``.

    Args:
        root: folder of the lists.
        images: folder of the photos; None = ``images`` or ``flickr30k-images`` in ``root``, or else ``root``.
        extractor: makes patches of the photos, ``PhotoPatches(NAME)`` of the model of this name; None =
            ``PhotoPatches()``, those of CLIP ViT-B/32.
        test: name of the split to report (``testall`` for the 5K images of COCO).

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: the numbers of captions and ids do not agree, or an id has no file.
    """

    def __init__(
        self,
        root: str | Path,
        images: str | Path | None = None,
        *,
        extractor: PhotoPatches | None = None,
        test: str = "test",
    ) -> None:
        self.root = user_path(root)
        self.images = _folder_of_photos(self.root) if images is None else user_path(images)
        self.test = test
        self.extractor: PhotoPatches = PhotoPatches() if extractor is None else extractor

    def split(self, stage: Stage) -> ImageTextSplit:
        """The photos and captions of one stage."""
        self._check_stage(stage)
        name = self.test if stage == "test" else _SPLITS[stage]
        where = lists_in(self.root) / name
        texts, ids, owners = read_texts(where), self._listed(where), None
        if texts.describe:
            ids, owners = owners_of(ids, len(texts.lines), f"{where}_ids.txt")
        features = PatchFeatures(self.files(ids), self.extractor)
        files = {"captions": str(texts.path), "image_ids": f"{where}_ids.txt"}
        pictures = [str(path) for path in features.paths]
        name = f"{self.root} ({name})"
        return ImageTextSplit(features, texts.lines, owners, image_ids=ids, pictures=pictures, name=name, files=files)

    def _listed(self, where: Path) -> list[str]:
        """The ids of a split; where no split has any, the photos that there are."""
        if any(where.parent.glob("*_ids.txt")) or any(where.parent.glob("*_caps.txt")):
            lines = [line.strip() for line in read_lines(f"{where}_ids.txt")]
            for number, image in enumerate(lines, 1):
                if len(image) > MOST_LETTERS:
                    raise ValueError(f"{where}_ids.txt:{number}: {shown(image)}, expected the name of a file")
            return lines
        found = photos_in(self.images)
        if not found:
            raise FileNotFoundError(f"{where}_ids.txt: no such file, and no photo in {self.images}")
        return found

    def files(self, ids: Sequence[str]) -> list[Path]:
        """The files of photos by their ids.

        Raises:
            ValueError: an id is not in ``id_mapping.json``.
        """
        mapping = mapping_beside(self.root)
        for image in ids:
            if mapping is not None and image not in mapping:
                raise ValueError(f"{self.root / 'id_mapping.json'}: no id {shown(image)}, which the lists have")
        return [self.images / (image if mapping is None else mapping[image]) for image in ids]


def photos_in(folder: Path) -> list[str]:
    """The names of the photos in a folder, in alphabetical order."""
    return sorted(path.name for path in folder.glob("*") if path.suffix.lower() in PHOTO_ENDINGS and path.is_file())


def _folder_of_photos(root: Path) -> Path:
    """Where the photos of a folder are."""
    inner = (root / name for name in ("images", "flickr30k-images"))
    return next((folder for folder in inner if folder.is_dir()), root)
