"""What makes regions of photos, as models and sources of data know it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from itmatch.batch import Regions
from itmatch.spec import Configurable, Spec

MOST_PIXELS = 4096  # of a side that photos are made: a model from elsewhere cannot ask for any amount of memory
MOST_REGIONS = 10_000  # of a photo, for the same reason


def check_at_most(name: str, value: int, most: int) -> int:
    """Refuse a setting above a bound."""
    if value > most:
        raise ValueError(f"{name}: {value}, expected at most {most}")
    return value


def other_setting(there: Spec, now: Spec) -> tuple[str, Any, Any] | None:
    """The first setting in which two extractors differ, and its two values; None where they do not.

    Args:
        there: one of them, as it is recorded.
        now: the other one.
    """
    if there["class_path"] != now["class_path"]:
        return "class_path", there["class_path"], now["class_path"]
    before, after = (spec.get("init_args") or {} for spec in (there, now))
    for name in dict.fromkeys((*after, *before)):
        if before.get(name) != after.get(name):
            return name, before.get(name), after.get(name)
    return None


class Extractor(Configurable, ABC):
    """Makes regions of photos: ``extractor(photos) -> Regions``. Subclass it to write your own.

    A model that has one takes photos. It is recorded in the model's settings, and its weights are not saved with the
    model: load them at the first call, by a name or from a folder, and leave them out when the extractor is pickled.
    The regions of a photo must not depend on the photos that come with it.

    Example:
        >>> import torch
        >>> class MeanColour(Extractor):  # one region, the whole photo
        ...     def __call__(self, photos):
        ...         colours = [list(photo.resize((1, 1)).getpixel((0, 0))) for photo in photos]
        ...         return Regions(torch.tensor(colours)[:, None] / 255)
        >>> from PIL import Image
        >>> MeanColour()([Image.new("RGB", (8, 4), "red")]).features
        tensor([[[1., 0., 0.]]])
    """

    @abstractmethod
    def __call__(self, photos: Sequence[Any]) -> Regions:
        """The regions of some photos, which are RGB images of Pillow; on the CPU.

        Raises:
            PhotoError: nothing can be made of one of them, and the others are good.
        """

    def __repr__(self) -> str:
        """The settings."""
        return f"{type(self).__name__}({self.extra_repr()})"

    @property
    def label_names(self) -> Sequence[str]:
        """What the classes of regions are called, by number; empty where there are none."""
        return ()

    @property
    def predicate_names(self) -> Sequence[str]:
        """What the predicates of relations are called, by number; empty where there are none."""
        return ()
