"""Configurations that come with the package; ``itmatch presets`` lists them.

A preset names a system, what it inherits from other files here, and what differs. :func:`expanded` makes the whole
configuration of it; a file of the user's may be written in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from itmatch.formats.configs import read_config
from itmatch.formats.messages import meant, shown

INHERITS, SYSTEM = "inherits", "system"
_PHOTO_SOURCES = ("PhotoFolder", "ImageFolder")
_PARTS = ("image_encoder", "text_encoder", "similarity")  # of a system
Config = dict[str, Any]


def preset_names() -> list[str]:
    """Names of all presets."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The YAML file of a preset.

    Raises:
        ValueError: there is no preset of this name.
    """
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; {meant(name, preset_names())} (`itmatch presets` lists them)")
    return _folder() / f"{name}.yaml"


def preset_config(name: str) -> Config:
    """The whole configuration of a preset."""
    return expanded(read_config(preset_path(name)), name)


def has_system(config: Config, where: str) -> bool:
    """Whether a configuration names a system, or inherits one; raises as :func:`expanded`."""
    return SYSTEM in _inherited(config, where)


def expanded(config: Config, where: str, settings: Mapping[str, Any] | None = None) -> Config:
    """The whole configuration of one that has ``inherits`` and ``system``; any other stays as it is.

    What a configuration says itself wins over what it inherits, of several inherited files the later one wins, and all
    win over the parts of the system.

    Args:
        config: ``inherits``: one preset or part of presets, or a list; ``system``: a name, or ``{name: settings}``.
        where: name of the place, for error messages.
        settings: of the system, which win over those of the configuration.

    Raises:
        ValueError: there is no such preset or system.
    """
    config = _inherited(config, where)
    system = config.pop(SYSTEM, None)
    if system is None:
        return config
    if not isinstance(system, dict) or len(system) != 1:
        raise ValueError(f"{where}: {SYSTEM}: {shown(system)}, expected a name, or a name with its settings")
    ((name, own),) = system.items()
    if not isinstance(own or {}, dict) or not all(isinstance(key, str) for key in own or {}):
        raise ValueError(f"{where}: {SYSTEM}.{name}: {shown(own)}, expected settings by name")
    from itmatch.models.systems.by_name import system_specs  # here, since listing presets needs no torch

    try:
        parts: dict[str, Any] = dict(system_specs(str(name), {**(own or {}), **(settings or {})}))
    except ValueError as error:
        raise ValueError(f"{where}: {SYSTEM}: {error}") from None
    data = {"tokenizer": parts.pop("tokenizer")} if "tokenizer" in parts else {}
    data |= _of_photos(config, parts.pop("extractor", None))
    return _merged({"model": parts} | ({"data": data} if data else {}), config)


def _of_photos(config: Config, extractor: Any) -> Config:
    """The extractor of a system, for a source that takes photos."""
    data = config.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    path = str(source.get("class_path")) if isinstance(source, dict) else ""
    if extractor is None or path.rpartition(".")[2] not in _PHOTO_SOURCES:
        return {}
    return {"source": {"class_path": path, "init_args": {"extractor": extractor}}}


def describe_presets() -> str:
    """A line for every preset: its name, and the first comment of its file."""
    width = max(len(name) for name in preset_names())
    lines = [f"{name:<{width}}  {_summary(preset_path(name))}" for name in preset_names()]
    return "\n".join([*lines, "", "itmatch fit --config NAME runs one; itmatch presets NAME prints its YAML."])


def preset_text(name: str) -> str:
    """The whole configuration of a preset, as YAML."""
    return f"# {_summary(preset_path(name))}\n{as_yaml(preset_config(name))}"


def as_yaml(config: Config) -> str:
    """A configuration as text."""
    import yaml

    return yaml.safe_dump(config, sort_keys=False)


def _inherited(config: Config, where: str) -> Config:
    own = dict(config)
    if isinstance(own.get(SYSTEM), str):
        own[SYSTEM] = {own[SYSTEM]: {}}
    given = own.pop(INHERITS, [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: {INHERITS}: {shown(given)}, expected the name of a preset, or a list of names")
    result: Config = {}
    for name in names:
        path = _folder() / f"{name}.yaml"
        if path not in _folder().rglob("*.yaml"):
            raise ValueError(f"{where}: {INHERITS}: no preset {shown(name)}; {meant(name, preset_names())}")
        result = _over(result, _inherited(read_config(path), name))
    return _over(result, own)


def _over(below: Config, above: Config) -> Config:
    """A file over another: a section that says nothing says nothing, and the parts of another system are its own."""
    above = {key: value for key, value in above.items() if value is not None}
    model = below.get("model")
    other = SYSTEM in below and SYSTEM in above and list(below[SYSTEM]) != list(above[SYSTEM])
    if other and isinstance(model, dict):
        below = below | {"model": {key: value for key, value in model.items() if key not in _PARTS}}
    return _merged(below, above)


def _merged(below: Config, above: Config) -> Config:
    """Settings by name are merged; another class or system, a list or a value takes the place of what is there."""
    if above.get("class_path", below.get("class_path")) != below.get("class_path"):
        return above
    merged = below | above
    for key in below.keys() & above.keys():
        old, new = below[key], above[key]
        if isinstance(old, dict) and isinstance(new, dict) and (key != SYSTEM or old.keys() == new.keys()):
            merged[key] = _merged(old, new)
    return merged


def _summary(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def _folder() -> Path:
    return Path(str(files(__name__)))
