"""Files of a saved model: where they lie, and what they say before any weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmatch.formats.files import read_json, user_path
from itmatch.formats.tensors import safetensors_sizes

WEIGHTS_NAME = "model.safetensors"


def model_files(model: str, **download: Any) -> tuple[Path, Path]:
    """``config.json`` and the weights of a model folder, or of a model on the Hub.

    Raises:
        FileNotFoundError: there is a folder, and one is not in it.
    """
    config, weights = (_model_file(model, name, download) for name in ("config.json", WEIGHTS_NAME))
    return config, weights


def _model_file(model: str, name: str, download: dict[str, Any]) -> Path:
    if Path(model).is_dir():
        if not (Path(model) / name).is_file():
            raise FileNotFoundError(f"{model}: no {name}; is this a folder of save_pretrained?")
        return Path(model) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo_id=model, filename=name, **download))


def read_model_folder(folder: str | Path) -> tuple[dict[str, Any], list[int]]:
    """How the model of a folder was built, as plain data, and its sizes; see :func:`settings_and_sizes`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is none of ours.
    """
    return settings_and_sizes(*model_files(str(user_path(folder))))


def settings_and_sizes(config: Path, weights: Path) -> tuple[dict[str, Any], list[int]]:
    """The parts of a model by name, as plain data, and the number of elements of each weight.

    Of the weights nothing but the head of the file is read.
    """
    settings: dict[str, Any] = read_json(config)
    settings.pop("itmatch_version", None)
    return settings, safetensors_sizes(weights)
