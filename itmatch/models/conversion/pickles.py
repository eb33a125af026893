"""Reading the checkpoint files of public repositories without running anything that they contain."""

from __future__ import annotations

import argparse
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itmatch.formats.messages import reason, shown, shown_keys
from itmatch.formats.tensors import is_torch_file

_PLAIN = (type(None), bool, int, float, str)
_DEPTH = 20
_NAMES = (("img", "image", "vis"), ("txt", "text", "cap", "sent", "lang"), ("sim", "match"))  # of parts, by their place
_PLAIN_DTYPE = re.compile("b1|[iu][1248]|f[248]|[SU][0-9]{1,4}")


@dataclass(frozen=True)
class PublicCheckpoint:
    """What a public checkpoint holds.

    Args:
        path: the file.
        states: the state dicts, without prefixes of DataParallel: image encoder, text encoder, similarity, ...
        options: the settings of the training, by name.
        notes: what was changed in reading.
    """

    path: Path
    states: list[dict[str, Tensor]]
    options: dict[str, Any]
    notes: list[str]


def read_public_checkpoint(path: str | Path) -> PublicCheckpoint:
    """Read a ``.pth`` or ``.pth.tar`` file: state dicts under ``model``, settings under ``opt``; or state dicts alone.

    The state dicts may be a list, a dict by the names of the parts (image, text, similarity), or one dict whose names
    begin with those of the parts; the settings a Namespace or a dict.

    A pickle can name any function to be called. Here only tensors, containers, numpy's scalars and
    ``argparse.Namespace`` are admitted; a file that names anything else is refused before it is called.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint of this layout, or it names something that is not admitted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = _load(path)
    notes: list[str] = []
    model = content
    if isinstance(content, dict):
        model = next((content[key] for key in ("model", "state_dict") if key in content), content)
    states = _parts(model, notes)
    if states is None:
        found = f"keys {shown_keys(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"{path}: {found}; expected a dict with `model`, the state dicts of the parts, and `opt`")
    options = content.get("opt") if isinstance(content, dict) else None
    if options is None:
        notes.append("the file has no settings (opt)")
    settings = {} if options is None else vars(options) if isinstance(options, argparse.Namespace) else options
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise ValueError(f"{path}: `opt` is a {type(options).__name__}, expected a Namespace or a dict of settings")
    for name, value in settings.items():
        _check_plain(path, f"opt.{name}", value, 0)
    return PublicCheckpoint(
        path, [_state(path, number, state, notes) for number, state in enumerate(states)], dict(settings), notes
    )


def _parts(model: Any, notes: list[str]) -> list[Any] | None:
    """The state dicts in the order image, text, similarity, others; None where there are none."""
    if isinstance(model, (list, tuple)):
        return list(model) or None
    if not isinstance(model, dict) or not all(isinstance(name, str) for name in model):
        return None
    parts = {name: part for name, part in model.items() if isinstance(part, dict)}
    if not parts:  # one dict of all weights
        for name, value in model.items():
            part, _, rest = name.removeprefix("module.").partition(".")
            parts.setdefault(part, {})[rest] = value
    ordered = sorted((name for name in parts if _place(name) < len(_NAMES)), key=_place)
    if not {0, 1} <= set(map(_place, ordered)):
        return None
    notes.append(f"the parts are {', '.join(ordered)}")
    return [parts[name] for name in ordered]


def _place(name: str) -> int:
    """Where a part of this name stands in a list."""
    return next((i for i, words in enumerate(_NAMES) if any(word in name.lower() for word in words)), len(_NAMES))


class _Dtype:
    """Stands for a numpy dtype of plain numbers or text."""

    def __init__(self, name: str, *_: Any) -> None:
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise ValueError(f"a numpy scalar of type {shown(name)}, expected a number or a text")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    """A numpy scalar as a plain value; the bytes have to be as many as the type has."""
    (value,) = np.frombuffer(data, dtype.dtype).tolist()
    return value


_ADMITTED: list[Any] = [
    argparse.Namespace,
    (_Dtype, "numpy.dtype"),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_ADMITTED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            why = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
            why = reason(why) if is_torch_file(path) else "it is not of torch.save"
            raise ValueError(f"{path}: no checkpoint ({why})") from error
        raise ValueError(
            f"{path}: names {refused[1]}; only tensors, containers, plain values and a Namespace of them are admitted, "
            "and nothing was run"
        ) from error
    except Exception as error:  # a damaged file fails in the unpickler in many ways
        raise ValueError(f"{path}: no checkpoint ({reason(error)})") from error


def _state(path: Path, number: int, state: Any, notes: list[str]) -> dict[str, Tensor]:
    if not isinstance(state, dict):
        raise ValueError(f"{path}: model[{number}] is a {type(state).__name__}, expected a state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: model[{number}][{shown(name)}] is a {type(value).__name__}, expected a tensor")
    if state and all(name.startswith("module.") for name in state):
        notes.append(f"model[{number}]: the prefix `module.` of DataParallel is left out")
        return {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


def _check_plain(path: Path, where: str, value: Any, depth: int) -> None:
    if depth > _DEPTH:
        raise ValueError(f"{path}: {where[:40]}... is nested more than {_DEPTH} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(path, f"{where}[{key!r}]", item, depth + 1)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            _check_plain(path, f"{where}[...]", item, depth + 1)
    elif not isinstance(value, _PLAIN):
        raise ValueError(f"{path}: {where} is a {type(value).__name__}, expected a plain value")
