"""How CLIP, SigLIP and vision transformers want photos, as their own files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmatch.formats.files import read_json
from itmatch.formats.hub.asking import hub_file
from itmatch.formats.hub.models import load_pretrained, patch_and_image_size
from itmatch.formats.messages import shown

_FILES = {"preprocessor_config.json": None, "processor_config.json": "image_processor"}  # the name within the file
_HALF = [0.5] * 3
_DUAL = ("clip", "siglip", "siglip2")  # which read pixels of one size, that of their settings


def usual_patches(config: Any) -> dict[str, Any]:
    """The settings of :class:`PhotoPatches` that a family has, with the sizes of a model.

    Args:
        config: the settings of the whole model, of ``transformers``.

    Raises:
        ValueError: it is neither a CLIP nor a SigLIP, nor a vision model that reads images of one size.
    """
    if config.model_type not in _DUAL:
        patch, image = patch_and_image_size(config)
        return {"image_size": image, "patch_size": patch, "fit": "stretch", "mean": _HALF, "std": _HALF}
    vision = config.vision_config
    if config.model_type == "siglip2":
        return {"patch_size": int(vision.patch_size), "fit": "keep", "mean": _HALF, "std": _HALF}
    sizes = {"image_size": int(vision.image_size), "patch_size": int(vision.patch_size)}
    return sizes | ({"fit": "crop"} if config.model_type == "clip" else {"fit": "stretch", "mean": _HALF, "std": _HALF})


def patches_of_model(model_name: str | Path) -> dict[str, Any]:
    """The settings of :class:`PhotoPatches` that a model has: those of its processor, or else those of its family.

    The processor of a vision model says how large its images are, where it is not CLIP or SigLIP. Of one that makes
    photos larger than the middle that it then cuts out (DINOv2: 256 pixels, of which 224), the size of the middle alone
    is taken: more of the photo is in it here.

    Args:
        model_name: name on the Hugging Face hub, or a local folder.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: its processor makes images of another size than the model reads, or no squares.
    """
    config = load_pretrained("AutoConfig", str(model_name), "model")
    found = usual_patches(config)
    path, given = _processor(str(model_name))
    if found["fit"] == "keep":
        found |= {"max_patches": given["max_num_patches"]} if "max_num_patches" in given else {}
        _check_size(path, "patch_size", given.get("patch_size"), found["patch_size"])
    else:
        cropped = bool(given.get("do_center_crop", found["fit"] == "crop"))
        if config.model_type in _DUAL:
            for name in ("crop_size", "size") if cropped else ("size",):
                _check_size(path, name, given.get(name), found["image_size"])
        else:
            name = "crop_size" if cropped and "crop_size" in given else "size"
            found["image_size"] = _side(path, name, given.get(name)) or found["image_size"]
        found["fit"] = "crop" if cropped else "stretch"
    for name in ("mean", "std"):
        colours = given.get(f"image_{name}")
        if colours is not None and not isinstance(colours, list):
            raise ValueError(f"{path}: image_{name} is {shown(colours)}, expected a list of three numbers")
        found |= {} if colours is None else {name: colours}
    return found | ({"mean": [0.0] * 3, "std": [1.0] * 3} if given.get("do_normalize") is False else {})


def _processor(model_name: str) -> tuple[Path, dict[str, Any]]:
    """The settings of a model's processor of images, and their file; empty where there is none."""
    for name, inside in _FILES.items():
        try:
            path = Path(model_name) / name if Path(model_name).is_dir() else hub_file(model_name, name)
            found = read_json(path, dict)
        except FileNotFoundError:
            continue
        if inside is None or isinstance(found.get(inside), dict):
            return path, found if inside is None else found[inside]
    return Path(model_name), {}


def _check_size(path: Path, name: str, given: Any, expected: int) -> None:
    side = _side(path, name, given)
    if side not in (None, expected):
        raise ValueError(f"{path}: {name} is {side} pixels, expected {expected}, as the model reads")


def _side(path: Path, name: str, given: Any) -> int | None:
    """Pixels of a side, or None where it is not said."""
    if given is None:
        return None
    sides = list(given.values()) if isinstance(given, dict) else [given]
    if not sides or any(type(side) is not int or side != sides[0] or side < 1 for side in sides):
        raise ValueError(f"{path}: {name} is {shown(given)}, expected a square of whole pixels")
    return int(sides[0])
