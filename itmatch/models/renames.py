"""Names of earlier versions in saved models and checkpoints, and what they are called now.

A file names classes and their arguments. When one of them gets another name, a row here keeps the older files readable;
when one goes, a row says whether a model that was saved with it still is what it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from itmatch.spec import is_spec

_MAX_DEPTH = 60  # deeper than what is built at all


@dataclass(frozen=True)
class Renamed:
    """An argument that has another name.

    Args:
        to: the name now.
        value: from the value in the file to the value now; by default they are the same.
    """

    to: str
    value: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Moved:
    """An argument that is one of another object's now.

    Args:
        to: the argument that takes the object.
        kind: the class of the object; what moves into the same object is gathered.
        stays: it is an argument of both now.
    """

    to: str
    kind: str
    stays: bool = False


@dataclass(frozen=True)
class Removed:
    """An argument that is gone.

    Args:
        unless: the values with which the class did what it does now; with any other the model is refused. None: all
            values, because they only mattered when the model was new.
        instead: what to do with such a model, for the message.
        matters: whether such a model is another one without it, and is refused; else it is told of.
    """

    unless: tuple[Any, ...] | None
    instead: str = "keep the version of itmatch that saved it"
    matters: bool = True


def _inverse(value: Any) -> Any:
    """An inverse temperature as a temperature; what is no number is refused by the class."""
    return 1 / value if isinstance(value, (int, float)) and value else value


def _query(value: Any) -> Any:
    return {"t2i": "words", "i2t": "regions"}.get(value, value) if isinstance(value, str) else value


def _cross_level(value: Any) -> Any:
    return ("score" if value else None) if isinstance(value, bool) else value


_TEMPERATURE = Renamed("temperature", _inverse)
_DISTANCE_WEIGHTED = Moved("negatives", "itmatch.losses.DistanceWeightedNegatives")

CLASSES: dict[str, str] = {  # by their names then, as in "itmatch.nn.Block"
    "itmatch.losses.SelectiveHardNegativeLoss": "itmatch.losses.HardNegativeTripletLoss",
    "itmatch.losses.DistanceWeightedTripletLoss": "itmatch.losses.HardNegativeTripletLoss",
    "itmatch.losses.OffBatchHardestLoss": "itmatch.losses.MemoryLoss",
}

_TRIPLET = "itmatch.losses.HardNegativeTripletLoss"
ARGUMENTS: dict[str, dict[str, Renamed | Moved | Removed]] = {  # by the names of the classes, then or now
    "itmatch.losses.CircleLoss": {"scale": _TEMPERATURE},
    "itmatch.losses.DistanceWeightedTripletLoss": dict.fromkeys(("dim", "cutoff", "far", "sample"), _DISTANCE_WEIGHTED),
    "itmatch.losses.HubnessAwareLoss": {"scale": _TEMPERATURE},
    "itmatch.losses.InfoNCELoss": {"max_scale": Renamed("min_temperature", _inverse)},
    "itmatch.losses.OffBatchHardestLoss": {
        "margin": Moved("loss", _TRIPLET),
        "reduction": Moved("loss", _TRIPLET, stays=True),
        "queue_margin": Renamed("memory_margin"),
    },
    "itmatch.losses.ProbabilisticMatchingLoss": {"scale": _TEMPERATURE},
    "itmatch.losses.SelectiveHardNegativeLoss": {"epsilon": Moved("negatives", "itmatch.losses.SelectiveNegatives")},
    "itmatch.losses.SigmoidLoss": {"scale": _TEMPERATURE},
    "itmatch.nn.CrossAttentionSimilarity": {
        "direction": Renamed("query", _query),
        "lambda_softmax": Renamed("temperature", _inverse),
    },
    "itmatch.nn.GlobalAttentionPooling": {"places": Renamed("positions")},
    "itmatch.nn.InteractiveSimilarity": {
        "region_lambda": Renamed("region_temperature", _inverse),
        "word_lambda": Renamed("word_temperature", _inverse),
        "cross_level": Renamed("cross_level", _cross_level),
        "refinement": Removed(("residual",)),
        "embed_dim": Removed((None,)),
        "refine_regions": Removed((True,)),
        "refine_words": Removed((True,)),
        "word_alignment": Removed((True,)),
        "normalization": Removed(("clipped_l2norm",)),
        "gamma": Removed(None),
    },
    "itmatch.nn.SpatialSemanticGCN": {
        "merge": Removed(("mean",)),
        "inverse": Removed((True,)),
        "affinity": Removed((False,)),
        "dropout": Removed((0.0,), "it only acted in training, which goes on without it", matters=False),
        "implementation": Removed(None),
    },
    "itmatch.nn.VectorSimilarity": {"lambda_softmax": Renamed("temperature", _inverse)},
}


def renamed(value: Any, where: str) -> Any:
    """Plain data that was read from a file, with the names of this version.

    Args:
        value: a spec, or a list or dict of specs; anything else is returned as it is.
        where: what it was read from, for error messages.

    Raises:
        ValueError: a model that needs an argument that is gone.
    """
    return _renamed(value, where, 0)


def _renamed(value: Any, where: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, (list, tuple)):
        return [_renamed(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    found = {key: _renamed(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    path, arguments = found.get("class_path"), found.get("init_args")
    if not is_spec(found) or not isinstance(path, str) or not path.startswith("itmatch."):
        return found
    parts = path.split(".")
    short = ".".join([*parts[:2], parts[-1]])  # whatever the file in which the class lay
    now = CLASSES.get(short, short)
    changes = ARGUMENTS.get(now, {}) | ARGUMENTS.get(short, {})
    if isinstance(arguments, dict) and changes.keys() & arguments.keys():
        arguments = _arguments(arguments, changes, f"{where}: {now}")
    changed = {"init_args": arguments} if "init_args" in found else {}
    return found | {"class_path": path if now == short else now} | changed


def _arguments(
    arguments: dict[str, Any], changes: Mapping[str, Renamed | Moved | Removed], where: str
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        change = changes.get(name)
        if change is None:
            found[name] = value
        elif isinstance(change, Renamed):
            found[change.to] = change.value(value)
        elif isinstance(change, Moved):
            if change.to in arguments:
                raise ValueError(f"{where}: {name} beside {change.to}, expected one of them")
            found.setdefault(change.to, {"class_path": change.kind, "init_args": {}})["init_args"][name] = value
            if change.stays:
                found[name] = value
        elif change.unless is not None and value not in change.unless:
            told = f"{where} was saved with {name}={str(value)[:80]}, which is gone: {change.instead}"
            if change.matters:
                raise ValueError(told)
            warnings.warn(told, stacklevel=2)
    return found
