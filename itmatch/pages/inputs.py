"""What users give to be explained: one image and one caption, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from itmatch.batch import Fragments, Regions
from itmatch.data import CaptionItem, ImageItem
from itmatch.errors import NonFiniteError
from itmatch.formats.arrays import Array
from itmatch.formats.files import existing_file
from itmatch.formats.messages import short, shown
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.pages.explanation import Relation
from itmatch.pages.pictures import is_drawing

OneImage: TypeAlias = ImageItem | Regions | Fragments | Path | str | Tensor | Array | Sequence[Any]
"""An item of a split, Regions, Fragments, the path of a photo, features (R, F) or (1, R, F); or a list of one."""

GivenRelation: TypeAlias = Relation | tuple[int, str | int | None, int] | tuple[int, str | int | None, int, float]
"""Subject region, predicate (a name, or its number), object region, and perhaps a confidence."""

_SHAPE = "one image: (regions, features) or (1, regions, features)"


def one_image(
    given: OneImage, boxes: ArrayLike | None, labels: ArrayLike | None, relations: Iterable[GivenRelation] | None
) -> ImageItem | Regions | Fragments | Path:
    """What stands for an image; features become Regions, with the boxes and labels that are given beside them.

    Raises:
        TypeError: it is something else.
        ValueError: it is no image, or several; boxes, labels or relations beside what has its own.
    """
    image = _unwrapped(given)
    beside = {"boxes": boxes, "labels": labels, "relations": relations}
    if isinstance(image, (str, Path)):
        image = Path(image)
    elif isinstance(image, (Tensor, np.ndarray, list, tuple)):
        if relations is not None:
            raise ValueError("relations: given beside features; give Regions with a graph, which the model reads")
        return _regions(as_tensor("image", image), boxes, labels)
    elif not isinstance(image, (ImageItem, Regions, Fragments)):
        expected = "an item of a split, Regions, features (regions, features), Fragments or the path of a photo"
        raise TypeError(f"image: a {type(image).__qualname__}, expected {expected}")
    if isinstance(image, (Regions, Fragments)) and len(image) != 1:
        raise ValueError(f"image: {len(image)} images, expected one")
    extra = [name for name, value in beside.items() if value is not None and not isinstance(image, Fragments)]
    if extra:
        kind = "the path of a photo" if isinstance(image, Path) else f"{type(image).__name__}, which have their own"
        raise ValueError(f"{extra[0]}: given beside {kind}")
    found: ImageItem | Regions | Fragments | Path = image
    return found


def one_caption(given: str | CaptionItem | Sequence[str | CaptionItem]) -> str | CaptionItem:
    """What stands for a caption.

    Raises:
        TypeError: it is something else.
        ValueError: there is more than one, or none.
    """
    if isinstance(given, (list, tuple)):
        if len(given) != 1:
            raise ValueError(f"text: {len(given)} captions, expected one")
        given = given[0]
    if not isinstance(given, (str, CaptionItem)):
        raise TypeError(f"text: a {type(given).__qualname__}, expected a caption: a string, or an item of a split")
    return given


def shown_picture(given: str | Path | None) -> str | None:
    """The path of a photo that is there, or a drawing.

    Raises:
        FileNotFoundError: there is no such photo.
        TypeError: it is neither.
    """
    if given is None or (isinstance(given, str) and is_drawing(given)):
        return given
    if not isinstance(given, (str, Path)):
        raise TypeError(f"picture: a {type(given).__qualname__}, expected the path of a photo, or SVG as text")
    if str(given).lstrip().startswith("<"):
        raise ValueError(f"picture: {shown(given)}, expected SVG that begins with '<svg', or the path of a photo")
    try:
        return str(existing_file(given))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"picture: {error}") from None


def checked_boxes(boxes: ArrayLike | None, regions: int) -> Tensor | None:
    """(R, 4) of that many regions.

    Raises:
        ValueError: they are none, or of other regions.
    """
    return None if boxes is None else _per_region("boxes", boxes, (regions, 4)).float()


def checked_labels(labels: ArrayLike | None, regions: int) -> Tensor | None:
    """(R,) int64 of that many regions.

    Raises:
        ValueError: they are none, or of other regions.
    """
    if labels is None:
        return None
    found = _per_region("labels", labels, (regions,))
    if found.is_floating_point() or found.dtype == torch.bool:
        raise TypeError(f"labels: {found.dtype}, expected whole numbers, the classes of the regions")
    return found.long()


def checked_relations(relations: Any) -> list[GivenRelation]:
    """Relations as a list.

    Raises:
        TypeError: there is something else among them.
    """
    if isinstance(relations, (str, bytes)) or not isinstance(relations, Iterable):
        raise TypeError(f"relations: a {type(relations).__qualname__}, expected a list")
    given = list(relations)
    for number, one in enumerate(given):
        if not isinstance(one, Relation) and not _is_relation(one):
            expected = "a Relation, or (region, predicate, region) and perhaps a confidence"
            raise TypeError(f"relations[{number}]: {short(shown(one))}, expected {expected}")
    return given


def _is_relation(one: Any) -> bool:
    if isinstance(one, str) or not hasattr(one, "__getitem__") or not hasattr(one, "__len__") or len(one) not in (3, 4):
        return False
    ends, predicate = (one[0], one[2], *one[3:]), one[1]
    return all(map(_is_number, ends)) and (predicate is None or isinstance(predicate, str) or _is_number(predicate))


def _is_number(value: Any) -> bool:
    return not isinstance(value, str) and hasattr(value, "__float__")


def _unwrapped(given: Any) -> Any:
    """The one of a list; a list of lists holds numbers."""
    if not isinstance(given, (list, tuple)) or (given and isinstance(given[0], (list, tuple))):
        return given
    if len(given) != 1:
        raise ValueError(f"image: a list of {len(given)}, expected {_SHAPE}")
    return given[0]


def _regions(features: Tensor, boxes: ArrayLike | None, labels: ArrayLike | None) -> Regions:
    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or len(features) != 1:
        raise ValueError(f"image: shape {tuple(features.shape)}, expected {_SHAPE}")
    places, classes = checked_boxes(boxes, features.shape[1]), checked_labels(labels, features.shape[1])
    return Regions(
        features if features.is_floating_point() else features.float(),
        boxes=None if places is None else places[None].to(features.device),
        labels=None if classes is None else classes[None].to(features.device),
    )


def _per_region(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    found = as_tensor(name, values)
    if tuple(found.shape) != shape:
        if found.ndim == len(shape) and found.shape[1:] == shape[1:]:
            raise ValueError(f"{name}: {len(found)}, expected {shape[0]}, one per region")
        raise ValueError(f"{name}: shape {tuple(found.shape)}, expected {shape}")
    if not bool(torch.isfinite(found).all()):
        raise NonFiniteError(f"{name}: NaN or inf at region {int((~torch.isfinite(found)).nonzero()[0, 0])}")
    return found
