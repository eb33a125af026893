"""What may stand after ``--config``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

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
from itmatch.presets import as_yaml, expanded, preset_config, preset_names

PREFIX = "preset:"
PROTOCOLS = {  # names that a protocol has on the command line beside that of its class
    protocol.name: protocol.__name__
    for protocol in (Flickr30K, Coco1K, Coco5K, EccvCaption, Cxc, PlausibleMatch, IdentityRetrieval, MeanRecall)
}
_PROTOCOL = re.compile(rf"(?<![^\s\[,'\"])({'|'.join(PROTOCOLS)})(?![^\s\],'\"])")  # alone or in a list
_SOURCE = ("--data.source", "--data.source.class_path")


def with_whole_configs(arguments: Sequence[str]) -> list[str]:
    """Arguments in which every ``--config`` is one that a parser reads, see :func:`resolve_config`.

    Where a later argument names another class for ``data.source``, the earlier configurations lose their settings of
    it: a split ``testall`` is of the data of a preset, not of those of the user.
    """
    resolved: list[str] = []
    for i, argument in enumerate(arguments):
        if i and arguments[i - 1] in ("--config", "-c"):
            resolved.append(resolve_config(argument))
        elif argument.startswith("--config="):
            resolved.append("--config=" + resolve_config(argument.removeprefix("--config=")))
        elif argument.startswith(("--protocol=", "--protocol+=")):
            option, _, value = argument.partition("=")
            resolved.append(f"{option}={_protocol_classes(value)}")
        elif i and arguments[i - 1] in ("--protocol", "--protocol+"):
            resolved.append(_protocol_classes(argument))
        else:
            resolved.append(argument)
    return _without_leftovers(resolved)


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


def resolve_config(value: str) -> str:
    """What stands after ``--config`` (``preset:NAME``, a file, or the name of a preset), for a parser.

    A file that is a whole configuration stays what it is; of all else the whole configuration is returned, as YAML, and
    of the configuration of a run of an earlier version that with the names of now.

    Raises:
        FileNotFoundError: it looks like a file and there is none.
        ValueError: it is none of these, or a file that holds no configuration.
    """
    if not value.startswith(PREFIX) and Path(value).is_file():
        given = read_config(value)
        config = renamed(expanded(given, value), value)
        if "protocol" in config:
            config["protocol"] = _protocol_classes(config["protocol"])
        return value if config == given else as_yaml(config)
    if Path(value).is_dir() and value not in preset_names():
        found = folder_near(value, "config.yaml")
        told = "" if found is None else f"; there is {found / 'config.yaml'}"
        raise IsADirectoryError(f"--config {value}: a folder, expected a file{told}")
    if Path(value).suffix in (".yaml", ".yml", ".json") or "/" in value:
        raise FileNotFoundError(f"--config {value}: no such file")
    return as_yaml(preset_config(value.removeprefix(PREFIX)))
