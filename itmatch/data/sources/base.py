"""Where datasets come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from itmatch.data.split import ImageTextSplit
from itmatch.extractor import Extractor
from itmatch.spec import Configurable

Stage = Literal["train", "val", "test"]


class DataSource(Configurable, ABC):
    """A dataset with its splits. Subclass it, and training and evaluation read your format.

    Attributes:
        extractor: what has made the regions of the photos, for a model that is to take photos after the training; None
            where that is not known.

    Example:
        >>> import numpy as np
        >>> class Noise(DataSource):
        ...     def __init__(self, images: int = 4) -> None:
        ...         self.images = images
        ...     def split(self, stage: Stage) -> ImageTextSplit:
        ...         features = np.random.default_rng(0).standard_normal((self.images, 3, 8)).astype(np.float32)
        ...         return ImageTextSplit(features, ["a"] * self.images, np.arange(self.images), name=stage)
        >>> Noise().split("val")
        ImageTextSplit(val: 4 images, 4 captions)
    """

    extractor: Extractor | None = None

    @abstractmethod
    def split(self, stage: Stage) -> ImageTextSplit:
        """The data of one stage."""

    def _check_stage(self, stage: str) -> None:
        if stage not in ("train", "val", "test"):
            raise ValueError(f"{type(self).__name__}: no stage {stage!r}, expected train, val or test")
