"""The files of a model that was saved: where they are, and what they say before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmatch.formats.files import read_json, user_path
from itmatch.formats.hub.asking import hub_file
from itmatch.formats.nearby import folder_near, near
from itmatch.formats.tensors import safetensors_sizes

WEIGHTS_NAME = "model.safetensors"
_CHECKPOINTS = "best.ckpt", "last.ckpt"
DOWNLOAD_ARGUMENTS = frozenset({"revision", "cache_dir", "force_download", "local_files_only", "token"})


def folder_or_name(model: str | Path) -> str:
    """A folder, or the name of a model on the Hub, as a user writes it.

    Raises:
        FileNotFoundError: it is a path, and there is no such folder.
        NotADirectoryError: it is a file.
    """
    name = str(user_path(model)) if str(model).startswith("~") else str(model)
    if Path(name).is_file() and Path(name).suffix:  # others may be called as a model of the Hub
        raise NotADirectoryError(
            f"{name}: a file, expected a folder of save_pretrained; MatchingTask.load_from_checkpoint reads checkpoints"
        )
    is_path = isinstance(model, Path) or name.startswith((".", "/", "~")) or "\\" in name
    if (is_path or name.count("/") > 1) and not Path(name).is_dir():  # the hub has NAME and OWNER/NAME
        raise FileNotFoundError(f"{name}: no such folder")
    return name


def model_file(model: str, name: str, download: dict[str, Any]) -> Path:
    """A file of a model folder, or of a model on the Hub.

    Raises:
        FileNotFoundError: there is none.
    """
    if Path(model).is_dir():
        if not (Path(model) / name).is_file():
            told = near(model, "one", name)
            if (place := folder_near(model, *_CHECKPOINTS)) is not None:
                told = f"; there is {next(place / one for one in _CHECKPOINTS if (place / one).is_file())}"
                told += ", which MatchingTask.load_from_checkpoint reads"
            raise FileNotFoundError(f"{model}: no {name}, expected a folder of save_pretrained, or a checkpoint{told}")
        return Path(model) / name
    return hub_file(model, name, **download)


def read_model_folder(folder: str | Path) -> tuple[dict[str, Any], list[int]]:
    """How the model of a folder of ``save_pretrained`` was built, as plain data, and its sizes.

    Returns:
        The parts by name, and the number of elements of each weight; nothing but the head of that file is read.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is none of ours.
    """
    return settings_and_sizes(*(model_file(str(user_path(folder)), part, {}) for part in ("config.json", WEIGHTS_NAME)))


def settings_and_sizes(config: Path, weights: Path) -> tuple[dict[str, Any], list[int]]:
    """What the two files of a model say: its parts, and the number of elements of each weight."""
    settings: dict[str, Any] = read_json(config)
    settings.pop("itmatch_version", None)
    return settings, safetensors_sizes(weights)
