"""Protocols on the test set of MS-COCO with more than its own positives: ECCV Caption, CxC and plausible matches.

The figures themselves are those of :mod:`itmatch.evaluation.relevance`.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from itmatch.evaluation.coco.files import MOST, TEST_IDS, CaptionIds, read_instances, read_positives, read_test_ids
from itmatch.evaluation.protocols import EvaluationProtocol, ScoredSplit, relevance_figures
from itmatch.evaluation.relevance import Relevance
from itmatch.formats.files import user_path


class _Annotated(EvaluationProtocol):
    """A protocol on annotation files that speak of COCO's own ids; their names begin with that of the protocol.

    Args:
        folder: of the annotation files; None = those of the package ``eccv_caption``, if it is installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder

    def check(self, caption_image: Tensor, num_images: int) -> None:
        """Raise if an annotation file is missing or broken, or speaks of another number or order of captions."""
        self._relevance(caption_image)

    def _files(self) -> Path:
        if self.folder is not None:
            return user_path(self.folder)
        package = find_spec("eccv_caption")
        if package is None or package.origin is None:
            raise FileNotFoundError(
                f"{type(self).__name__}: no folder of annotation files; give one, or pip install eccv_caption"
            )
        return Path(package.origin).parent / "data"

    def _relevance(self, caption_image: Tensor) -> tuple[Relevance, dict[int, int]]:
        """The annotations by places in the split, and from COCO's ids of images to these places."""
        folder = self._files()
        ids, images = _places(folder, caption_image)
        captions = {caption: place for place, caption in enumerate(ids.captions)}
        lists = []
        for name, queries, answers in (("image_to_caption", images, captions), ("caption_to_image", captions, images)):
            found = read_positives(folder / f"{self.name}_{name}.json", queries)
            # what is annotated and not in the test set is never found, and counts, as in the published package
            lists.append({queries[q]: [answers.get(item, MOST + item) for item in found[q]] for q in found})
        return Relevance.from_lists(*lists), images

    def _checked_relevance(self, split: ScoredSplit) -> Relevance:
        relevance, images = self._relevance(split.caption_image)
        _check_ids(self._files(), split, images)
        return relevance


class EccvCaption(_Annotated):
    """ECCV Caption: mAP@R, R-Precision and R@1 on the annotated queries, beside the recalls of the whole set.

    Args:
        folder: with ``coco_test_ids.npy``, ``original_caption_to_image.json``, ``eccv_image_to_caption.json`` and
            ``eccv_caption_to_image.json``; None = those of the package ``eccv_caption``, if it is installed.

    Source:
        Chun et al., "ECCV Caption: Correcting False Negatives by Collecting Machine-and-Human-verified Image-Caption
        Associations for MS-COCO", ECCV 2022; the figures are those of its package.
    """

    name = "eccv"

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """``eccv_i2t_map_at_r``, ``eccv_i2t_rprecision``, ``eccv_i2t_r1`` and the same of ``t2i``."""
        hits = split.hits(self._checked_relevance(split), places=1)
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

    name = "cxc"

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """``cxc_i2t_r1``, ``cxc_i2t_r5``, ``cxc_i2t_r10`` and the same of ``t2i``."""
        return relevance_figures("cxc", split.hits(self._checked_relevance(split)), (1, 5, 10), precision=False)


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

    name = "pmrp"

    def __init__(
        self, instances: str | Path, folder: str | Path | None = None, distances: list[int] | None = None
    ) -> None:
        super().__init__(folder)
        self.instances = instances
        self._read: tuple[int, set[tuple[int, int]]] | None = None  # the file is large
        self.distances = [0, 1, 2] if distances is None else distances

    def check(self, caption_image: Tensor, num_images: int) -> None:
        """Raise if a file is missing or broken, or speaks of another number or order of captions."""
        self._classes(caption_image, num_images)

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """``pmrp_i2t``, ``pmrp_t2i``."""
        classes, images = self._classes(split.caption_image, split.num_images)
        _check_ids(self._files(), split, images)
        known = classes.any(1)  # the others are neither queries nor candidates, as in the authors' code
        figures: dict[str, list[float]] = {"pmrp_i2t": [], "pmrp_t2i": []}
        for distance in self.distances:
            relevance = _plausible(classes, known, split, distance)
            for name, found in zip(figures, split.hits(relevance, places=1, images=known), strict=True):
                figures[name].append(found.r_precision())
        return {name: sum(values) / len(values) for name, values in figures.items()}

    def _classes(self, caption_image: Tensor, num_images: int) -> tuple[Tensor, dict[int, int]]:
        """(I, C) bool, which object classes each image shows; and the places of images by COCO's ids."""
        _, images = _places(self._files(), caption_image)
        if self._read is None:
            self._read = read_instances(self.instances)
        count, pairs = self._read
        shown = [(images[image], category) for image, category in pairs if image in images]
        if not shown:
            raise ValueError(f"{self.instances}: no object in any of the {len(images)} images of the test set")
        classes = torch.zeros(num_images, count, dtype=torch.bool)
        classes[tuple(torch.tensor(shown).T)] = True
        return classes, images


def _plausible(classes: torch.Tensor, known: torch.Tensor, split: ScoredSplit, distance: int) -> Relevance:
    counts = classes.sum(1)
    common = classes.float() @ classes.float().T
    near = (counts[:, None] + counts - 2 * common <= distance) & known[:, None] & known  # (I, I)
    of_captions = near[:, split.caption_image.cpu()]  # (I, T)
    return Relevance(of_captions.nonzero(), of_captions.T.contiguous().nonzero())


def _places(folder: Path, caption_image: Tensor) -> tuple[CaptionIds, dict[int, int]]:
    """COCO's ids, and from those of images to places in the split, whose order has to be that of the file."""
    ids = read_test_ids(folder, len(caption_image))
    images: dict[int, int] = {}
    for place, (image, own) in enumerate(zip(ids.images, caption_image.tolist(), strict=True)):
        if images.setdefault(image, own) != own:
            raise ValueError(
                f"{ids.path}: caption {place} is one of image {images[image]}, the split says {own}: "
                "its captions are in another order"
            )
    return ids, images


def _check_ids(folder: Path, split: ScoredSplit, images: dict[int, int]) -> None:
    """Where the split names its images by COCO's ids, in numbers or file names, they have to be in their places."""
    found = [re.search(r"(\d{1,18})(?:\.\w+)?$", name) for name in split.image_ids]
    ids = [-1 if match is None else int(match[1]) for match in found]
    if not set(ids) >= set(images):
        return  # these are other names
    for place, image in enumerate(ids):
        if images.get(image, place) != place:
            raise ValueError(
                f"{folder / TEST_IDS}: COCO's image {image} is number {images[image]} there and number {place} of the "
                "split: its images are in another order"
            )
