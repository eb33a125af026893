"""Checkpoints as files that may come from elsewhere: what is read of them, and what they may say."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from itmatch.formats.files import user_path
from itmatch.formats.nearby import folder_near
from itmatch.formats.tensors import is_torch_file
from itmatch.losses import Loss
from itmatch.models.folders import WEIGHTS_NAME
from itmatch.models.parts import MAY_LACK, PARTS
from itmatch.models.renames import renamed
from itmatch.spec import build

BUILT: dict[str, type] = PARTS | {"objective": Loss}  # the settings that are objects; the others are plain values
_KEPT = "best.ckpt", "last.ckpt"
_PATHS = ("best_model_path", "last_model_path", "kth_best_model_path")


def read_checkpoint(path: str | Path | IO[bytes], map_location: Any = "cpu", *, mmap: bool = False) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain values; nothing in it is run.

    Args:
        path: a file; ``scheme://...`` is read through fsspec; or an open binary file.
        map_location: where the tensors go (``torch.load``).
        mmap: leave the weights on the disk until they are used; for a local file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint, one that names something to be called, or one without settings and weights.
    """
    where = str(path) if isinstance(path, (str, Path)) else str(getattr(path, "name", "checkpoint"))
    file: Any = path
    if isinstance(path, (str, Path)) and "://" in str(path):
        file = io.BytesIO(_downloaded(str(path)))
    elif isinstance(path, (str, Path)):
        file = user_path(path)
        if not file.is_file():
            what = "a folder, expected the file of a checkpoint" if file.is_dir() else "no such file"
            place = folder_near(file, *_KEPT)
            some = "" if place is None else f"; {next(place / one for one in _KEPT if (place / one).is_file())} is one"
            if (file / WEIGHTS_NAME).is_file():
                some = "; it is a model folder, which MatchingModel.from_pretrained reads"
            raise FileNotFoundError(f"{path}: {what}{some}")
    try:
        on_disk = mmap and isinstance(file, Path) and zipfile.is_zipfile(file)
        content: dict[str, Any] = torch.load(file, weights_only=True, map_location=map_location, mmap=on_disk)
    except Exception as error:  # torch has an error of its own for every way in which a file can be broken
        if isinstance(file, Path) and not is_torch_file(file):
            raise ValueError(f"{where}: no checkpoint of itmatch (it is not of torch.save)") from error
        reason = (str(error).splitlines() or [""])[0][:300]
        raise ValueError(f"{where}: no checkpoint of itmatch ({type(error).__name__}: {reason})") from error
    for name in ("hyper_parameters", "state_dict"):
        found = content.get(name) if isinstance(content, dict) else None
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise ValueError(f"{where}: no checkpoint of itmatch, it has no {name}")
    wrong = next((name for name, weight in content["state_dict"].items() if not isinstance(weight, Tensor)), None)
    if wrong is not None:
        raise ValueError(f"{where}: state_dict[{wrong!r}] is no tensor")
    return content


def _downloaded(url: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(url, "rb") as file:
            content: bytes = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: no such file") from None
    except Exception as error:  # each file system has errors of its own
        raise OSError(f"{url}: cannot be read ({type(error).__name__}: {error})") from error
    return content


def built_settings(
    settings: Mapping[str, Any], accepted: Sequence[str], where: str, trusted_modules: Sequence[str] = ()
) -> dict[str, Any]:
    """The settings of a checkpoint with its objects built, by :func:`itmatch.spec.build` alone.

    Args:
        settings: ``hyper_parameters``.
        accepted: names that are written by us; any other is refused.
        where: the file, for error messages.
        trusted_modules: modules that may be imported because the file names them.

    Raises:
        ValueError: a setting of another name, one that is no plain value, or an object that is not admitted.
    """
    unknown = sorted(set(settings) - set(accepted))
    if unknown:
        raise ValueError(f"{where}: hyper_parameters has {', '.join(unknown)[:200]}, which we never write")
    built = {}
    for name, value in settings.items():
        if name in BUILT:
            place = f"{where}: {name}"
            built[name] = build(renamed(value, place), BUILT[name], place, trusted_modules=trusted_modules)
            if not isinstance(built[name], BUILT[name]) and (name not in MAY_LACK or built[name] is not None):
                raise ValueError(f"{where}: {name} is a {type(value).__name__}, expected a {BUILT[name].__name__}")
        else:
            built[name] = value
    return built


def keep_own_paths(checkpoint: Mapping[str, Any], folder: Path | None) -> None:
    """Forget the paths of other places that callbacks have in a checkpoint: Lightning removes files by such paths.

    A path counts when it is that of a ``.ckpt`` file in the folder of the checkpoint; that is where a run keeps them.

    Args:
        checkpoint: changed in place.
        folder: of the checkpoint; None if that is not known, and then no path counts.
    """
    callbacks = checkpoint.get("callbacks")
    for state in callbacks.values() if isinstance(callbacks, dict) else ():
        if not isinstance(state, dict):
            continue
        found = state.get("best_k_models")
        models = found if isinstance(found, dict) else {}
        named = [state[name] for name in _PATHS if name in state] + list(models)
        foreign = {str(path) for path in named if not _is_own(path, folder)}
        # these two go together; without them the search for the best begins anew
        if foreign & {*map(str, models), str(state.get("kth_best_model_path"))}:
            state |= {"best_k_models": {}, "kth_best_model_path": ""}
        state.update({name: "" for name in _PATHS if str(state.get(name)) in foreign})
        there = sorted(path for path in foreign if "://" in path or os.path.exists(path.replace("\0", "")))
        if there:  # those of a run that was moved are not, and nobody misses them
            shown = ", ".join(there)[:300]
            rank_zero_warn(f"the checkpoint names files outside its own folder, which are left alone: {shown}")


def _is_own(path: Any, folder: Path | None) -> bool:
    if path == "":
        return True
    if folder is None or not isinstance(path, str) or "://" in path or "\0" in path:
        return False
    file = Path(path)
    return file.suffix == ".ckpt" and file.is_file() and file.resolve().parent == folder.resolve()


def training_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """How far the training of a checkpoint is: ``epochs``, ``steps``, whether it is ``finished``, and its ``data``.

    What the file does not say is 0 or False; of the data it may say what is in "train" and in "val".
    """
    epoch, steps = _number(checkpoint.get("epoch")), _number(checkpoint.get("global_step"))
    ended = checkpoint
    for name in ("loops", "fit_loop", "epoch_loop.batch_progress"):
        found = ended.get(name)
        ended = found if isinstance(found, dict) else {}
    epochs = epoch + (ended.get("is_last_batch") is True)
    limits = (checkpoint.get("max_epochs"), epochs), (checkpoint.get("max_steps"), steps)
    data = checkpoint.get("MatchingData")
    content = data if isinstance(data, dict) else {}
    return {
        "epochs": epochs,
        "steps": steps,
        "finished": any(0 < _number(limit) <= done for limit, done in limits),
        "data": {stage: content[stage] for stage in ("train", "val") if isinstance(content.get(stage), str)},
    }


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def optimizer_of(checkpoint: Mapping[str, Any]) -> str:
    """The optimizer that a checkpoint was trained with, in words."""
    states = checkpoint.get("optimizer_states")
    groups = (
        states[0].get("param_groups") if isinstance(states, list) and states and isinstance(states[0], dict) else None
    )
    name = str(checkpoint.get("optimizer", "an optimizer")).rpartition(".")[2]
    if not isinstance(groups, list) or not groups or not isinstance(groups[0], dict):
        return name
    shown = {key: value for key, value in groups[0].items() if key in ("lr", "weight_decay", "momentum", "betas")}
    return f"{name} ({', '.join(f'{key} {value}' for key, value in shown.items())})"
