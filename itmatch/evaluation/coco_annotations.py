"""Protocols on the test set of MS-COCO with more than its own positives: ECCV Caption, CxC and plausible matches."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from itmatch.evaluation.protocols import EvaluationProtocol, ScoredSplit, relevance_figures
from itmatch.evaluation.relevance import Relevance
from itmatch.formats.files import read_json

_IDS = "coco_test_ids.npy"
_OUTSIDE = 1 << 40  # places of annotated images and captions that are not in the test set


class _Annotated(EvaluationProtocol):
    """A protocol on annotation files that speak of COCO's own ids.

    Args:
        folder: of the annotation files; None = those of the package ``eccv_caption``, if it is installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder

    def check(self, caption_image: torch.Tensor, num_images: int) -> None:
        """Raise if the annotation files are missing, or speak of another number of captions."""
        _caption_ids(self._files(), len(caption_image))

    def _files(self) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        package = find_spec("eccv_caption")
        if package is None or package.origin is None:
            raise FileNotFoundError(
                f"{type(self).__name__}: no folder of annotation files; give one, or pip install eccv_caption"
            )
        return Path(package.origin).parent / "data"

    def _relevance(self, kind: str, split: ScoredSplit) -> Relevance:
        """The annotations of one kind, by places in the split."""
        folder = self._files()
        captions, images = _places(folder, split)
        lists = []
        for name, queries, answers in (("image_to_caption", images, captions), ("caption_to_image", captions, images)):
            path = folder / f"{kind}_{name}.json"
            found = {}
            for query, positives in read_json(path).items():
                if int(query) not in queries:
                    raise ValueError(f"{path}: {query} is not in the test set of {folder / 'coco_test_ids.npy'}")
                # what is annotated and not in the test set is never found, and counts, as in the published package
                found[queries[int(query)]] = [answers.get(int(item), _OUTSIDE + int(item)) for item in positives]
            lists.append(found)
        return Relevance.from_lists(*lists)


class EccvCaption(_Annotated):
    """ECCV Caption: mAP@R, R-Precision and R@1 on the annotated queries, beside the recalls of the whole set.

    Args:
        folder: with ``coco_test_ids.npy``, ``original_caption_to_image.json``, ``eccv_image_to_caption.json`` and
            ``eccv_caption_to_image.json``; None = those of the package ``eccv_caption``, if it is installed.

    Source:
        Chun et al., "ECCV Caption: Correcting False Negatives by Collecting Machine-and-Human-verified Image-Caption
        Associations for MS-COCO", ECCV 2022; the figures are those of its package.
    """

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """``eccv_i2t_map_at_r``, ``eccv_i2t_rprecision``, ``eccv_i2t_r1`` and the same of ``t2i``."""
        hits = split.hits(self._relevance("eccv", split), places=1)
        return relevance_figures("eccv", hits, (1,), precision=True)


class Cxc(_Annotated):
    """Crisscrossed Captions: recalls with all captions and images that CxC found to fit.

    Args:
        folder: with ``coco_test_ids.npy``, ``original_caption_to_image.json``, ``cxc_image_to_caption.json`` and
            ``cxc_caption_to_image.json``; None = those of the package ``eccv_caption``, if it is installed.

    Source:
        Parekh et al., "Crisscrossed Captions: Extended Intramodal and Intermodal Semantic Similarity Judgments for
        MS-COCO", EACL 2021.
    """

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """``cxc_i2t_r1``, ``cxc_i2t_r5``, ``cxc_i2t_r10`` and the same of ``t2i``."""
        return relevance_figures("cxc", split.hits(self._relevance("cxc", split)), (1, 5, 10), precision=False)


class PlausibleMatch(_Annotated):
    """Plausible-match R-Precision: a caption fits every image whose objects differ in few classes from its own image's.

    Images without any object are left out, and so are their captions.

    Args:
        instances: ``instances_val2014.json`` of COCO.
        folder: with ``coco_test_ids.npy`` and ``original_caption_to_image.json``; None = those of the package
            ``eccv_caption``, if it is installed.
        distances: numbers of classes in which two images may differ; the result is the mean over them.

    Source:
        Chun et al., "Probabilistic Embeddings for Cross-Modal Retrieval", CVPR 2021.
    """

    def __init__(
        self,
        instances: str | Path,
        folder: str | Path | None = None,
        distances: list[int] | None = None,
    ) -> None:
        super().__init__(folder)
        self.instances = instances
        self.distances = [0, 1, 2] if distances is None else distances

    def check(self, caption_image: torch.Tensor, num_images: int) -> None:
        """Raise if a file is missing, or speaks of another number of captions."""
        super().check(caption_image, num_images)
        if not Path(self.instances).is_file():
            raise FileNotFoundError(f"{self.instances}: no such file")

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """``pmrp_i2t``, ``pmrp_t2i``."""
        classes = self._classes(split)
        known = classes.any(1)  # the others are neither queries nor candidates, as in the authors' code
        figures: dict[str, list[float]] = {"pmrp_i2t": [], "pmrp_t2i": []}
        for distance in self.distances:
            relevance = _plausible(classes, known, split, distance)
            for name, found in zip(figures, split.hits(relevance, places=1, images=known), strict=True):
                figures[name].append(found.r_precision())
        return {name: sum(values) / len(values) for name, values in figures.items()}

    def _classes(self, split: ScoredSplit) -> torch.Tensor:
        """(I, C) bool, which object classes each image shows."""
        content = read_json(self.instances)
        for key in ("categories", "annotations"):
            if not isinstance(content.get(key), list):
                raise ValueError(f"{self.instances}: no list {key!r}; is this a file of COCO instances?")
        _, images = _places(self._files(), split)
        columns = {category["id"]: place for place, category in enumerate(content["categories"])}
        classes = torch.zeros(split.num_images, len(columns), dtype=torch.bool)
        for annotation in content["annotations"]:
            if annotation["image_id"] in images:
                classes[images[annotation["image_id"]], columns[annotation["category_id"]]] = True
        return classes


def _plausible(classes: torch.Tensor, known: torch.Tensor, split: ScoredSplit, distance: int) -> Relevance:
    counts = classes.sum(1)
    common = classes.float() @ classes.float().T
    near = (counts[:, None] + counts - 2 * common <= distance) & known[:, None] & known  # (I, I)
    of_captions = near[:, split.caption_image.cpu()]  # (I, T)
    return Relevance(of_captions.nonzero(), of_captions.T.contiguous().nonzero())


def _caption_ids(folder: Path, expected: int) -> list[int]:
    path = folder / _IDS
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    ids: list[int] = np.load(path, allow_pickle=False).tolist()
    if len(ids) != expected:
        raise ValueError(f"{path}: ids of {len(ids)} captions, the split has {expected}")
    return ids


def _places(folder: Path, split: ScoredSplit) -> tuple[dict[int, int], dict[int, int]]:
    """From COCO's ids of captions, and of images, to places in the split, whose order has to be that of the file."""
    path, ids = folder / _IDS, _caption_ids(folder, len(split.caption_image))
    captions = {int(caption): place for place, caption in enumerate(ids)}
    images: dict[int, int] = {}
    of_caption = read_json(folder / "original_caption_to_image.json")
    for place, caption in enumerate(ids):
        image, own = int(of_caption[str(caption)][0]), int(split.caption_image[place])
        if images.setdefault(image, own) != own:
            raise ValueError(
                f"{path}: caption {place} is one of image {images[image]}, the split says {own}: "
                "its captions are in another order"
            )
    _check_ids(path, split, images)
    return captions, images


def _check_ids(path: Path, split: ScoredSplit, images: dict[int, int]) -> None:
    """Where the split names its images by COCO's ids, in numbers or file names, they have to be in their places."""
    found = [re.search(r"(\d+)(?:\.\w+)?$", name) for name in split.image_ids]
    ids = [-1 if match is None else int(match[1]) for match in found]
    if not set(ids) >= set(images):
        return  # these are other names
    for place, image in enumerate(ids):
        if images.get(image, place) != place:
            raise ValueError(
                f"{path}: COCO's image {image} is number {images[image]} there and number {place} of the split: "
                "its images are in another order"
            )
