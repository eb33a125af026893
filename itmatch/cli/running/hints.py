"""Types of settings, in words."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from pathlib import Path
from typing import Any

PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "null",
    Path: "a path",
}
CONTAINERS = {list: "a list", dict: "settings by name", tuple: "a list", set: "a list"}


def in_words(hint: Any) -> str:
    """What a value of this type is.

    Example:
        >>> from typing import Literal
        >>> in_words(int | Literal["words", "regions"] | None)
        'one of words, regions, a whole number, or null'
    """
    members = _members(hint)
    choices = [
        choice for kind in members if typing.get_origin(kind) is typing.Literal for choice in typing.get_args(kind)
    ]
    kinds = [f"one of {', '.join(dict.fromkeys(map(str, choices)))}"] if choices else []
    kinds += dict.fromkeys(_one_in_words(kind) for kind in members if typing.get_origin(kind) is not typing.Literal)
    if "null" in kinds:  # last, whatever the order of the types
        kinds = [*(kind for kind in kinds if kind != "null"), "null"]
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])}{',' if len(kinds) > 2 else ''} or {kinds[-1]}"


def bases_of(hint: Any) -> tuple[type, ...]:
    """The classes that a value of this type is an object of, or that a function of this type returns; () of numbers."""
    bases: list[type] = []
    for kind in _members(hint):
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is collections.abc.Callable:
            bases += bases_of(arguments[-1])
        elif inspect.isclass(kind) and kind not in PLAIN and kind not in CONTAINERS and origin is None:
            bases.append(kind)
    return tuple(base for base in bases if base.__module__ != "builtins" and not issubclass(base, (str, Path)))


def parts_of(hint: Any) -> str | None:
    """``"dict"`` or ``"list"`` where a value has parts of its own; None otherwise."""
    origins = {typing.get_origin(kind) or kind for kind in _members(hint)}
    return "dict" if dict in origins else "list" if origins & {list, tuple} else None


def value_of(hint: Any) -> Any:
    """The type of the values of a dict; None if it is no dict."""
    found = [typing.get_args(kind)[1] for kind in _members(hint) if (typing.get_origin(kind) is dict)]
    return found[0] if found else None


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(inner for kind in typing.get_args(hint) for inner in _members(kind))
    return () if getattr(hint, "__name__", None) == "Tensor" else (hint,)  # beside a number, as in torch's optimizers


def _one_in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is collections.abc.Callable:
        return in_words(arguments[-1]) if arguments else "a function"
    kind = origin or hint
    return PLAIN.get(kind) or CONTAINERS.get(kind) or f"the name of a {getattr(kind, '__name__', kind)}"
