"""Photos to regions: what a detector, a backbone, or both see in a batch of photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from itmatch.batch import Regions
from itmatch.extractor import MOST_REGIONS, Extractor, check_at_most
from itmatch.formats.messages import shown
from itmatch.formats.photos import read_photo
from itmatch.ops.checks import check_share, check_whole, check_whole_or_none
from itmatch.ops.masking import lengths_to_mask
from itmatch.ops.roi import roi_features
from itmatch.tensordata import check_tensor
from itmatch.vision.backbones import Backbone, PretrainedBackbone
from itmatch.vision.detectors import Detector
from itmatch.vision.loading import device_of, whole_path
from itmatch.vision.prompted import load_detector
from itmatch.vision.relations import BOX_PREDICATES, box_relations

DEFAULT_DETECTOR = "ustc-community/dfine-small-obj365"
OWN_BACKBONE = "detector"


@dataclass(eq=False, repr=False)
class PhotoRegions(Regions):
    """Regions that were found in photos.

    Args:
        scores: (I, R) float in [0, 1], how sure the detector is; None without a detector.
        sizes: (I, 2) int64, width and height of each photo in pixels.
    """

    scores: Tensor | None = None
    sizes: Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes, dtypes and (on the CPU) values."""
        super().__post_init__()
        if self.scores is not None:
            check_tensor("PhotoRegions.scores", self.scores, tuple(self.mask.shape), "float")
        if self.sizes is not None:
            check_tensor("PhotoRegions.sizes", self.sizes, (len(self.mask), 2), torch.int64)


class RegionExtractor(Extractor):
    """Makes regions of photos: ``extractor(photos) -> PhotoRegions``.

    - With a detector alone, a region has the last hidden state of its query as its feature.
    - With a detector and a backbone, the backbone's map under the detector's box: RoIAlign, then the mean.
    - With a backbone alone, the regions are the cells of a grid.

    Weights are loaded at the first call, once, and are left out when the extractor is pickled, so that it can be sent
    to other processes. The regions of a photo do not depend on the photos that come with it.

    Args:
        detector: name of the hub, or a folder, of a model that ``AutoModelForObjectDetection`` loads, or of an OWL-ViT,
            OWLv2 or Grounding DINO; None = none.
        backbone: likewise for :class:`PretrainedBackbone`; or ``"detector"``, the detector's own; or a
            :class:`Backbone`; or any function that makes maps (I, C, H, W) of a list of RGB images, each map of a whole
            photo; None = none.
        classes: names of what a detector such as OWLv2 looks for; None = the 80 of COCO. Others have their own.
        regions: of a photo, at most. Without a detector a square number, or None for the cells of the backbone's map.
        min_score: regions of which the detector is less sure are left out, except for the surest of each photo.
        relations: make a graph of how each region lies to so many others, the nearest (:func:`box_relations`); None =
            no graph.
        device: None = a GPU where there is one.

    Raises:
        ValueError: neither a detector nor a backbone, or a number out of range.

    Example:
        >>> import torch
        >>> from PIL import Image
        >>> def colours(images):  # a backbone whose map is of two places, black
        ...     return torch.zeros(len(images), 3, 1, 2)
        >>> RegionExtractor(None, backbone=colours, regions=None)([Image.new("RGB", (8, 4))]).boxes[0]
        tensor([[0.0000, 0.0000, 0.5000, 1.0000],
                [0.5000, 0.0000, 1.0000, 1.0000]])
    """

    def __init__(
        self,
        detector: str | None = DEFAULT_DETECTOR,
        *,
        # Any in the function: what a file names can be a Backbone alone
        backbone: Backbone | str | Callable[[Sequence[Any]], Any] | None = None,
        classes: Sequence[str] | None = None,
        regions: int | None = 36,
        min_score: float = 0.0,
        relations: int | None = None,
        device: str | None = None,
    ) -> None:
        detector = None if detector in ("none", "None") else detector  # as it is said on a command line
        if detector is None and backbone is None:
            raise ValueError("neither a detector nor a backbone; give one of them, or both")
        if detector is None and (backbone == OWN_BACKBONE or classes is not None):
            raise ValueError("no detector, expected one whose backbone is read, or that looks for classes")
        if regions is not None:
            check_at_most("regions", check_whole("regions", regions), MOST_REGIONS)
        if detector is not None:
            check_whole("regions", 0 if regions is None else regions)
        elif regions is not None and isqrt(regions) ** 2 != regions:
            raise ValueError(f"regions: {regions}, expected a square number for a grid, such as {isqrt(regions) ** 2}")
        self.detector, self.backbone, self.regions = detector, backbone, regions
        self.classes = None if classes is None else _checked_classes(classes)
        self.min_score, self.device = check_share("min_score", min_score), device
        self.relations = check_whole_or_none("relations", relations)
        self._detector: Detector | None = None
        self._maps: Callable[[Sequence[Any]], Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the weights, which the other process loads again."""
        return self.__dict__ | {"_detector": None, "_maps": None}

    def spec_arguments(self) -> dict[str, Any]:
        """Without the device, which is of a machine; folders by their whole paths, for use elsewhere."""
        arguments = {name: value for name, value in super().spec_arguments().items() if name != "device"}
        return {
            name: whole_path(value) if name in ("detector", "backbone") else value for name, value in arguments.items()
        }

    @property
    def label_names(self) -> list[str]:
        """Names of the detector's classes, by label; empty without a detector."""
        self.load()
        return [] if self._detector is None else self._detector.label_names

    @property
    def predicate_names(self) -> tuple[str, ...]:
        """Names of the relations of boxes, by number; empty without them."""
        return () if self.relations is None else BOX_PREDICATES

    def load(self) -> None:
        """Load the weights now; the first call does it otherwise.

        Raises:
            FileNotFoundError: there is no such model, or a broken one.
            ImportError: it needs a package that is missing.
            ValueError: there is no such device.
        """
        device = device_of(self.device)
        if self.detector is not None and self._detector is None:
            self._detector = load_detector(self.detector, device, self.classes)
        if self.backbone not in (None, OWN_BACKBONE) and self._maps is None:
            named = isinstance(self.backbone, (str, Path))
            self._maps = PretrainedBackbone(str(self.backbone), device=device) if named else self.backbone  # type: ignore[assignment]
        if isinstance(self._maps, PretrainedBackbone):
            self._maps.load()

    @torch.no_grad()
    def __call__(self, photos: Sequence[Any]) -> PhotoRegions:
        """The regions of some photos, on the CPU.

        Args:
            photos: images of Pillow, or paths; one alone is a list of one.

        Raises:
            FileNotFoundError: a photo, or a model, is not there.
            NonFiniteError: a model computes NaN or infinity.
            ValueError: no photos, or one that cannot be read.
        """
        if isinstance(photos, (str, Path)) or hasattr(photos, "getpixel"):
            photos = [photos]
        if not len(photos):
            raise ValueError("photos: none, expected one or more")
        self.load()
        images = [read_photo(photo, f"photos[{place}]") for place, photo in enumerate(photos)]
        maps = None if self._maps is None else self._checked(self._maps(images), len(images))
        if self._detector is not None:
            found = self._of_queries(images, maps)
        else:
            assert maps is not None  # one of both is given
            found = self._of_grid(maps)
        found["sizes"] = torch.tensor([image.size for image in images])
        if self.relations is not None:
            found["graph"] = box_relations(found["boxes"], found["mask"], neighbours=self.relations)
        return PhotoRegions(**found)

    def _of_queries(self, images: Sequence[Any], maps: Tensor | None) -> dict[str, Any]:
        assert self._detector is not None
        assert self.regions is not None
        answers = self._detector(images, self.regions, own_maps=self.backbone == OWN_BACKBONE)
        queries = [found.surer(self.min_score) for found in answers]
        found = {
            name: pad_sequence([getattr(one, name) for one in queries], batch_first=True, padding_value=padding)
            for name, padding in (("features", 0.0), ("boxes", 0.0), ("labels", -1), ("scores", 0.0))
        }
        found["mask"] = mask = lengths_to_mask(torch.tensor([len(one.scores) for one in queries]))
        if maps is not None:
            found["features"] = roi_features(maps, found["boxes"]) * mask[..., None]
        return found

    def _of_grid(self, maps: Tensor) -> dict[str, Any]:
        height, width = maps.shape[2:] if self.regions is None else (isqrt(self.regions),) * 2
        boxes = grid_boxes(height, width).expand(len(maps), -1, -1)
        own = self.regions is None or (height, width) == tuple(maps.shape[2:])
        features = maps.flatten(2).transpose(1, 2) if own else roi_features(maps, boxes)
        return {"features": features, "mask": torch.ones(boxes.shape[:2], dtype=torch.bool), "boxes": boxes}

    def _checked(self, maps: Any, count: int) -> Tensor:
        if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != count or not maps.is_floating_point():
            found = f"{maps.dtype} of shape {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
            raise ValueError(f"backbone: {found}, expected floats of shape ({count}, C, H, W)")
        return maps.float().cpu()


def _checked_classes(classes: Sequence[str]) -> list[str]:
    """Names, of which each is there once."""
    if isinstance(classes, str):
        raise ValueError(f"classes: {shown(classes)}, expected a list of names")
    found = list(classes)
    for place, one in enumerate(found):
        if not isinstance(one, str) or not one.strip() or one in found[:place]:
            raise ValueError(f"classes: {shown(one)} at {place}, expected names that are there once")
    if not found:
        raise ValueError("classes: none, expected one or more names")
    return found


def grid_boxes(height: int, width: int) -> Tensor:
    """(H * W, 4): the cells of a grid as boxes, row by row.

    Example:
        >>> grid_boxes(1, 2).tolist()
        [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack((x, y, x + 1 / width, y + 1 / height), -1).reshape(-1, 4).clamp(max=1)
