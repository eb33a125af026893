"""Command lines, made of the functions that they call."""

from __future__ import annotations

import argparse
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from itmatch.errors import UsageError
from itmatch.formats.files import user_path
from itmatch.formats.messages import meant

NoneType = type(None)


def call(command: str, function: Callable[..., int | None], arguments: Sequence[str]) -> int:
    """Call a function with the arguments of a command line; returns the exit status.

    Raises:
        UsageError: the arguments are no good.
    """
    parser = parser_of(command, function)
    try:
        options = vars(parser.parse_args(arguments))
        given = [options.pop(name) for name in _by_position(function)]
        return function(*given, **options) or 0
    except UsageError as error:
        raise UsageError(f"{error} (see {parser.prog} --help)") from error.__cause__


def parser_of(command: str, function: Callable[..., Any]) -> argparse.ArgumentParser:
    """The command line that the signature of a function describes.

    What the function takes by position stands by position, keyword-only arguments are options: ``min_iou`` is
    ``--min-iou``. Of a list there is one value or more, of a tuple as many as it has; a bool is an option without a
    value, and with ``str | bool`` the value may be left out. Help comes from the docstring.

    Args:
        command: as it is typed after ``itmatch``.
        function: its arguments are annotated with bool, int, float, str, Path, ``Literal``, lists and tuples of those,
            and None.
    """
    description, _, arguments = (inspect.getdoc(function) or "").partition("\n\nArgs:\n")
    told = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", arguments.partition("\n\n")[0], re.MULTILINE)
    parser = _Parser(prog=f"itmatch {command}", description=_plain(description), allow_abbrev=False)
    help_of = {name: _plain(text).removesuffix(".").replace("%", "%%") for name, text in told}
    hints = typing.get_type_hints(function)
    positional = _by_position(function)
    for name, parameter in inspect.signature(function).parameters.items():
        settings = _settings(hints[name]) | {"help": help_of[name]}
        default = parameter.default
        if default is not inspect.Parameter.empty:
            shown = "" if default is None or isinstance(default, bool) else f" ({_shown(default)})"
            settings |= {"default": default, "help": settings["help"] + shown}
        if name in positional:
            settings |= {} if default is inspect.Parameter.empty else {"nargs": "?"}
            parser.add_argument(name, metavar=name.removesuffix("s").upper(), **settings)
        else:
            required = default is inspect.Parameter.empty
            parser.add_argument(_option(name), dest=name, required=required, **settings)
    return parser


def check_one_of(**options: Any) -> None:
    """Raise a UsageError unless one of these options is given, and no other."""
    given = [_option(name) for name, value in options.items() if value]
    if len(given) > 1:
        raise UsageError(f"{given[1]}: not allowed with {given[0]}")
    if not given:
        raise UsageError(f"one of the arguments {' '.join(map(_option, options))} is required")


class _Parser(argparse.ArgumentParser):
    """Its errors are raised, and ``--min_iou`` is ``--min-iou``."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        named = [argument.partition("=") for argument in args]
        options = [name.replace("_", "-") if name.startswith("--") else name for name, _, _ in named]
        given = [option + "".join(value) for option, (_, *value) in zip(options, named, strict=True)]
        found, unknown = super().parse_known_args(given, namespace)
        if unknown:
            known = [text for action in self._actions for text in action.option_strings if text.startswith("--")]
            self.error(f"unrecognized arguments: {' '.join(unknown)}; {meant(unknown[0].partition('=')[0], known)}")
        return found

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _by_position(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]


def _settings(hint: Any) -> dict[str, Any]:
    """What ``add_argument`` is told of a type."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = [kind for kind in (typing.get_args(hint) if union else [hint]) if kind is not NoneType]
    if kinds == [bool]:
        return {"action": "store_true"}
    if bool in kinds:
        kinds.remove(bool)
        return _settings(kinds[0]) | {"nargs": "?", "const": True}
    origin, arguments = typing.get_origin(kinds[0]), typing.get_args(kinds[0])
    if origin is list:
        return _settings(arguments[0]) | {"nargs": "+"}
    if origin is tuple:
        return _settings(arguments[0]) | {"nargs": len(arguments)}
    if origin is typing.Literal:
        return {"choices": arguments}
    return {"type": user_path if kinds[0] is Path else kinds[0]}


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").split())
