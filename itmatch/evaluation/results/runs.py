"""What a run that was tested has left: its figures, its ranks, its configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from itmatch.evaluation.ranks import RetrievalRanks
from itmatch.formats.configs import read_config
from itmatch.formats.files import read_json
from itmatch.formats.messages import shown
from itmatch.formats.nearby import near
from itmatch.formats.npz import read_npz

LABELS = ("images", "last_weights")  # entries of test_metrics.json that say what its figures are of
_LARGEST = 1e9  # of a figure: ranks of as many captions as nobody has
_SEED = "seed_everything"
_OUTPUT = {"report", "html_report", "fragments", "config"}  # options that say where things are written


class StoredRanks(NamedTuple):
    """What a test of a whole split writes as ``test_ranks.npz``.

    Args:
        ranks: of every query.
        caption_image: (T,) int64, the image of each caption.
        image_ids: I names.
        captions_digest: of the captions, a hash.
    """

    ranks: RetrievalRanks
    caption_image: Tensor
    image_ids: tuple[str, ...]
    captions_digest: str


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run that was tested.

    Args:
        label: how tables name it.
        stage: ``"test"`` or ``"val"``.
        figures: what ``test_metrics.json`` holds.
        ranks: what ``test_ranks.npz`` beside it holds, if it is there.
        config: what ``config.yaml`` beside it holds, if it is there.
        trained: the configuration of the training, where ``config`` is that of a test of a checkpoint whose run is
            still there.
    """

    label: str
    stage: str
    figures: Mapping[str, float]
    ranks: StoredRanks | None = None
    config: Mapping[str, Any] | None = None
    trained: Mapping[str, Any] | None = None

    def named(self, label: str) -> StoredRun:
        """The same run with another label."""
        return replace(self, label=label)

    @property
    def seed(self) -> int | None:
        """Of the training; None if it is not known."""
        seed = (self.trained or self.config or {}).get(_SEED)
        return seed if type(seed) is int else None

    @property
    def setting(self) -> str | None:
        """The configuration but for its seed and the paths that it writes to, as text; None if it is not known."""
        if self.config is None:
            return None
        own = _setting(self.config)
        if self.trained is not None:
            own = own | {"ckpt_path": _setting(self.trained)}
        return _as_text(own)

    @property
    def source(self) -> str | None:
        """What the configuration says of the data that were tested, as text; None if it is not known."""
        data = (self.config or {}).get("data")
        if not isinstance(data, Mapping) or not data.get("source"):
            return None
        return _as_text([self.stage, data["source"], self.figures.get("images")])

    @property
    def protocols(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Class, and settings, of each protocol that the configuration names."""
        given = (self.config or {}).get("protocol")
        found = []
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, Mapping) and isinstance(one.get("class_path"), str):
                settings = one.get("init_args")
                found.append((one["class_path"].rpartition(".")[2], settings if isinstance(settings, Mapping) else {}))
        return found


def read_run(path: Path) -> StoredRun:
    """A run, by its folder or its ``test_metrics.json``.

    Raises:
        FileNotFoundError: it was not tested.
        ValueError: a file is broken, or holds something else.
    """
    metrics = path / "test_metrics.json" if path.is_dir() else path
    if not metrics.is_file():
        raise FileNotFoundError(
            f"{metrics}: no such file; a run that was tested has one{near(path, 'such a run', metrics.name)}"
        )
    stage = "val" if metrics.name.startswith("val_") else "test"
    ranks = metrics.with_name(metrics.name.removesuffix("metrics.json") + "ranks.npz")
    config = _config(metrics.with_name("config.yaml"))
    trained = None
    checkpoint = (config or {}).get("ckpt_path")
    if isinstance(checkpoint, str) and os.path.isfile(checkpoint):  # False for what can be no path, too
        trained = _config(Path(checkpoint).parent.parent / "config.yaml")
    return StoredRun(
        str(path), stage, read_figures(metrics), read_ranks(ranks) if ranks.is_file() else None, config, trained
    )


def read_ranks(path: Path) -> StoredRanks:
    """The ranks of a test; raises a ValueError if the file is broken, or of no test."""
    names = ("image_to_text", "text_to_image", "caption_image", "image_ids", "captions_digest")
    arrays = read_npz(path, names)
    images, captions = (arrays[name].size for name in names[:2])
    for name, length, lowest, most in (
        ("image_to_text", images, -1, captions),  # -1: an image without captions
        ("text_to_image", captions, 0, images),
        ("caption_image", captions, 0, images),
    ):
        array = arrays[name]
        if array.shape != (length,) or array.dtype.kind not in "iu":
            raise ValueError(
                f"{path}: {name}: {array.dtype} of shape {array.shape}, expected integers of shape ({length},)"
            )
        if length == 0 or not lowest <= int(array.min()) <= int(array.max()) < most:
            found = f"{int(array.min())}..{int(array.max())}" if length else "nothing"
            raise ValueError(f"{path}: {name}: {found}, expected numbers of {lowest} to {most - 1}")
    if arrays["image_ids"].shape != (images,) or arrays["image_ids"].dtype.kind != "U":
        raise ValueError(f"{path}: image_ids: {arrays['image_ids'].dtype}, expected {images} names")
    first, second, image = (torch.from_numpy(arrays[name].astype("int64")) for name in names[:3])
    if not torch.equal(first >= 0, torch.bincount(image, minlength=images) > 0):
        raise ValueError(f"{path}: image_to_text: the images with a rank are not those with captions")
    ids = tuple(arrays["image_ids"].tolist())
    return StoredRanks(RetrievalRanks(first, second), image, ids, str(arrays["captions_digest"]))


def _config(path: Path) -> dict[str, Any] | None:
    return read_config(path) if path.is_file() else None


def read_figures(path: Path) -> dict[str, float]:
    """The figures of ``test_metrics.json``, by name; raises a ValueError if they are none."""
    content = read_json(path)
    for name, value in content.items():
        if type(value) not in (int, float) or not abs(value) <= _LARGEST:  # NaN is not either
            found = f"{shown(name)} is {shown(value)}"
            raise ValueError(f"{path}: no figures of a test ({found}, expected a finite number)")
    if not set(content) - set(LABELS):
        raise ValueError(f"{path}: no figures of a test (it is empty)")
    return {name: float(value) for name, value in content.items()}


def _setting(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without its seed and without what says where the run is written."""
    kept = {name: value for name, value in config.items() if name != _SEED and name not in _OUTPUT}
    for group, outputs in (("trainer", ("logger", "default_root_dir")), ("checkpoint", ("dirpath", "filename"))):
        if isinstance(kept.get(group), Mapping):
            kept[group] = {name: value for name, value in kept[group].items() if name not in outputs}
    return kept


def _as_text(value: Any) -> str:
    """Equal for equal values, in whatever order their keys come."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list) else value

    return json.dumps(plain(value), sort_keys=True, default=str)
