"""Configurations that come with the package; ``itmatch presets`` lists them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from itmatch.formats.configs import check_config

PREFIX = "preset:"


def preset_names() -> list[str]:
    """Names of all presets."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The YAML file of a preset.

    Raises:
        ValueError: there is no preset of this name.
    """
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    return _folder() / f"{name}.yaml"


def resolve_config(value: str) -> str:
    """Path of what stands after ``--config``: ``preset:NAME``, a file, or the name of a preset.

    Raises:
        FileNotFoundError: it looks like a file and there is none.
        ValueError: it is none of these, or a file that holds no configuration.
    """
    if value.startswith(PREFIX):
        return str(preset_path(value.removeprefix(PREFIX)))
    if Path(value).is_file():
        check_config(value)
        return value
    if Path(value).is_dir() and value not in preset_names():
        raise IsADirectoryError(f"--config {value}: a folder, expected a file")
    if Path(value).suffix in (".yaml", ".yml", ".json") or "/" in value:
        raise FileNotFoundError(f"--config {value}: no such file")
    return str(preset_path(value))


def describe_presets() -> str:
    """A line for every preset: its name, and the first comment of its file."""
    width = max(len(name) for name in preset_names())
    lines = [f"{name:<{width}}  {_summary(preset_path(name))}" for name in preset_names()]
    return "\n".join([*lines, "", "itmatch fit --config NAME runs one; itmatch presets NAME prints its YAML."])


def _summary(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def _folder() -> Path:
    return Path(str(files(__name__)))
