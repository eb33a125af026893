"""Reading the checkpoint files of public repositories without running anything that they contain."""

from __future__ import annotations

import argparse
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmatch.formats.messages import reason, shown, shown_keys

_PLAIN = (type(None), bool, int, float, str)
_DEPTH = 20


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
    """Read a ``.pth`` or ``.pth.tar`` file: a dict with ``model``, a list of state dicts, and ``opt``, a Namespace.

    A pickle can name any function to be called. Here only tensors, containers and ``argparse.Namespace`` are admitted;
    a file that names anything else is refused before it is called.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint of this layout, or it names something that is not admitted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = _load(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), (list, tuple)):
        found = f"keys {shown_keys(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"{path}: {found}; expected a dict with `model`, a list of state dicts, and `opt`")
    options = content.get("opt")
    if not isinstance(options, argparse.Namespace):
        raise ValueError(f"{path}: `opt` is a {type(options).__name__}, expected an argparse.Namespace of settings")
    settings = vars(options)
    for name, value in settings.items():
        _check_plain(path, f"opt.{name}", value, 0)
    notes: list[str] = []
    states = [_state(path, number, state, notes) for number, state in enumerate(content["model"])]
    return PublicCheckpoint(path, states, settings, notes)


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            why = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
            raise ValueError(f"{path}: no checkpoint ({reason(why)})") from error
        raise ValueError(
            f"{path}: names {refused[1]}; only tensors, containers and a Namespace of plain values are admitted, "
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
