"""itmatch: fine-grained image-text matching.

The names below, and the modules and folders of the package, are imported when they are first used; ``import itmatch``
alone imports nothing heavy.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

from itmatch._version import __version__

if TYPE_CHECKING:
    from itmatch.batch import Batch, Captions, Fragments, Regions, SceneGraph
    from itmatch.models import MatchingModel
    from itmatch.training import MatchingData, MatchingTask

_HOME = {
    "Batch": "itmatch.batch",
    "Captions": "itmatch.batch",
    "Fragments": "itmatch.batch",
    "MatchingData": "itmatch.training",
    "MatchingModel": "itmatch.models",
    "MatchingTask": "itmatch.training",
    "Regions": "itmatch.batch",
    "SceneGraph": "itmatch.batch",
}
__all__ = [
    "Batch",
    "Captions",
    "Fragments",
    "MatchingData",
    "MatchingModel",
    "MatchingTask",
    "Regions",
    "SceneGraph",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _modules():
        return importlib.import_module(f"itmatch.{name}")
    raise AttributeError(f"module 'itmatch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_modules()})


@cache  # jsonargparse asks for names that are not there hundreds of times a command
def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
