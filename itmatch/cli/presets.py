"""``itmatch presets``: lists the packaged configurations, or prints one."""

from __future__ import annotations

from collections.abc import Sequence

from itmatch.presets import describe_presets, preset_text, resolve_config

_USAGE = """usage: itmatch presets [NAME]

Without NAME: list the presets. With NAME: print that preset's whole configuration, as --config takes it."""


def presets_command(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    if not arguments:
        print(describe_presets())
    elif arguments[0] in ("-h", "--help"):
        print(_USAGE)
    else:
        print(preset_text(arguments[0]), end="")
    return 0


def with_whole_configs(arguments: Sequence[str]) -> list[str]:
    """Arguments in which every ``--config`` is one that a parser reads, see :func:`itmatch.presets.resolve_config`."""
    resolved: list[str] = []
    for i, argument in enumerate(arguments):
        if i and arguments[i - 1] in ("--config", "-c"):
            resolved.append(resolve_config(argument))
        elif argument.startswith("--config="):
            resolved.append("--config=" + resolve_config(argument.removeprefix("--config=")))
        else:
            resolved.append(argument)
    return resolved
