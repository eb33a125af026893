"""What may stand after ``--config``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from itmatch.errors import UsageError
from itmatch.evaluation import (
    Coco1K,
    Coco5K,
    Cxc,
    EccvCaption,
    Flickr30K,
    IdentityRetrieval,
    MeanRecall,
    PlausibleMatch,
)
from itmatch.formats.configs import read_config
from itmatch.formats.nearby import folder_near
from itmatch.models.renames import renamed
from itmatch.presets import as_yaml, expanded, has_system, preset_names, preset_path

PREFIX = "preset:"
PROTOCOLS = {  # names that a protocol has on the command line beside that of its class
    protocol.name: protocol.__name__
    for protocol in (Flickr30K, Coco1K, Coco5K, EccvCaption, Cxc, PlausibleMatch, IdentityRetrieval, MeanRecall)
}
_PROTOCOL = re.compile(rf"(?<![^\s\[,'\"])({'|'.join(PROTOCOLS)})(?![^\s\],'\"])")  # alone or in a list
_SYSTEM = "--system."
_SOURCE = ("--data.source", "--data.source.class_path")


def with_whole_configs(arguments: Sequence[str]) -> list[str]:
    """Arguments in which every ``--config`` is one that a parser reads, see :func:`resolve_config`.

    ``--system.SETTING`` changes a setting of the system of the last configuration that names one.

    Where a later argument names another class for ``data.source``, the earlier configurations lose their settings of
    it: a split ``testall`` is of the data of a preset, not of those of the user.
    """
    resolved: list[str] = []
    arguments, settings = _system_settings(arguments)
    last = _with_system(arguments) if settings else None
    for i, argument in enumerate(arguments):
        own = settings if i == last else None
        if i and arguments[i - 1] in ("--config", "-c"):
            resolved.append(resolve_config(argument, own))
        elif argument.startswith("--config="):
            resolved.append("--config=" + resolve_config(argument.removeprefix("--config="), own))
        elif argument.startswith(("--protocol=", "--protocol+=")):
            option, _, value = argument.partition("=")
            resolved.append(f"{option}={_protocol_classes(value)}")
        elif i and arguments[i - 1] in ("--protocol", "--protocol+"):
            resolved.append(_protocol_classes(argument))
        else:
            resolved.append(argument)
    return _without_leftovers(resolved)


def _system_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Arguments without those for the system of a configuration, and these by name.

    Raises:
        UsageError: one has no value.
    """
    rest: list[str] = []
    found: dict[str, Any] = {}
    given = iter(arguments)
    for argument in given:
        if not argument.startswith(_SYSTEM):
            rest.append(argument)
            continue
        name, equals, value = argument.removeprefix(_SYSTEM).partition("=")
        value = value if equals else next(given, "")
        if not name or not value or (not equals and value.startswith("--")):
            raise UsageError(f"{argument}: expected {_SYSTEM}SETTING VALUE")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[name] = value
    return rest, found


def _with_system(arguments: Sequence[str]) -> int:
    """The place of the last configuration that names a system.

    Raises:
        UsageError: there is none.
    """
    for i in reversed(range(len(arguments))):
        option, _, value = arguments[i].partition("=")
        if i and arguments[i - 1] in ("--config", "-c"):
            option, value = "--config", arguments[i]
        if option == "--config" and value and has_system(_given_config(value), value):
            return i
    raise UsageError(
        f"{_SYSTEM}SETTING: no --config with a system, such as the preset clip_vitb32; that of a run names its parts"
    )


def _without_leftovers(arguments: list[str]) -> list[str]:
    kept = list(arguments)
    later: set[str] = set()  # the classes of the source that arguments after this one name
    for i in reversed(range(len(arguments))):
        option, _, value = arguments[i].partition("=")
        if i and arguments[i - 1] in ("--config", "-c", *_SOURCE):
            option, value = arguments[i - 1], arguments[i]
        if option in _SOURCE and value and not value.startswith("{"):
            later.add(value.rpartition(".")[2])
        elif option in ("--config", "-c") and value:
            config = yaml.safe_load(value) if "\n" in value else read_config(value)
            data = config.get("data")
            source = data.get("source") if isinstance(data, dict) else None
            source = source if isinstance(source, dict) else {}
            own = str(source.get("class_path") or "").rpartition(".")[2]
            if own and later - {own} and source.pop("init_args", None):
                kept[i] = kept[i].removesuffix(value) + as_yaml(config)
            later |= {own} - {""}
    return kept


def _protocol_classes(value: Any) -> Any:
    """Names of protocols, alone or in a list, as those of their classes; all else as it is."""
    if isinstance(value, list):
        return [_protocol_classes(one) for one in value]
    return _PROTOCOL.sub(lambda found: PROTOCOLS[found[1]], value) if isinstance(value, str) else value


def resolve_config(value: str, system: dict[str, Any] | None = None) -> str:
    """What stands after ``--config`` (``preset:NAME``, a file, or the name of a preset), for a parser.

    A file that is a whole configuration stays what it is; of all else the whole configuration is returned, as YAML, and
    of the configuration of a run of an earlier version that with the names of now.

    Args:
        value: what stands there.
        system: settings of its system, which win over its own.

    Raises:
        FileNotFoundError: it looks like a file and there is none.
        ValueError: it is none of these, or a file that holds no configuration.
    """
    given, name = _given_config(value), value.removeprefix(PREFIX)
    if not _is_file(value):
        return as_yaml(expanded(given, name, system))
    config = renamed(expanded(given, value, system), value)
    if "protocol" in config:
        config["protocol"] = _protocol_classes(config["protocol"])
    return value if config == given else as_yaml(config)


def _is_file(value: str) -> bool:
    return not value.startswith(PREFIX) and Path(value).is_file()


def _given_config(value: str) -> dict[str, Any]:
    """The configuration that a value of ``--config`` names, as it is written there; raises as the above."""
    if _is_file(value):
        return read_config(value)
    if Path(value).is_dir() and value not in preset_names():
        found = folder_near(value, "config.yaml")
        told = "" if found is None else f"; there is {found / 'config.yaml'}"
        raise IsADirectoryError(f"--config {value}: a folder, expected a file{told}")
    if Path(value).suffix in (".yaml", ".yml", ".json") or "/" in value:
        raise FileNotFoundError(f"--config {value}: no such file")
    return read_config(preset_path(value.removeprefix(PREFIX)))
