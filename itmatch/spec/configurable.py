"""Recording how an object was built, as plain data."""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from itmatch.trust import public_path

Spec = dict[str, Any]

_MISSING = object()
_SHORT = reprlib.Repr()  # a vocabulary has thousands of words
_SHORT.maxstring = _SHORT.maxother = 80
_PLAIN_TYPES = (type(None), bool, int, float, complex, str, bytes, Path)
_only_noted: ContextVar[bool] = ContextVar("_only_noted", default=False)


class Configurable:
    """Mixin: an instance knows the arguments from which an equal one can be constructed.

    Subclass it (blocks do so through :class:`itmatch.nn.Block`) and nothing else is needed. Arguments have to be
    plain values (None, bool, number, string, path, list, dict of those) or Configurable themselves; a class whose
    constructor takes something else overrides :meth:`spec_arguments`.

    An attribute that has the name of a constructor argument is that setting: when it is changed later, :attr:`spec`
    follows. Keep settings under the names of their arguments, so that what is saved is what is used.

    Example:
        >>> class Margin(Configurable):
        ...     def __init__(self, value: float = 0.2) -> None:
        ...         self.value = value
        >>> margin = Margin(0.1)
        >>> margin.spec["init_args"]
        {'value': 0.1}
        >>> margin.value = 0.3
        >>> margin.spec["init_args"]
        {'value': 0.3}
    """

    _init_arguments: dict[str, Any]
    _built: dict[str, Any]  # the settings as attributes, right after the constructor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the constructor of every subclass that has one of its own."""
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        original = cls.__init__
        signature = inspect.signature(original)

        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            if "_init_arguments" in self.__dict__:  # only the outermost counts: what the caller wrote
                original(self, *args, **kwargs)
                return
            try:
                bound = signature.bind(self, *args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{type(self).__qualname__}: {error}") from None
            if _only_noted.get():
                self.__dict__["_init_arguments"] = noted = _flatten(bound, signature)
                self.__dict__.update(noted)  # settings can be asked for, as of a finished object
                return
            bound.apply_defaults()
            arguments = self.__dict__["_init_arguments"] = _flatten(bound, signature)
            try:
                original(self, *args, **kwargs)
            except AttributeError:
                _check_built(self)  # what lacks its base fails in many ways
                raise
            _check_built(self)
            names = dict.fromkeys([*arguments, *_argument_names(type(self))])
            self.__dict__["_built"] = {name: _setting(self, name) for name in names}

        cls.__init__ = __init__  # type: ignore[method-assign]

    @property
    def spec(self) -> Spec:
        """``{"class_path": ..., "init_args": {...}}`` of plain values, of which ``build`` makes an equal object.

        It describes the object as it is now.

        Raises:
            TypeError: a setting is, or was replaced by, something that cannot be written as plain data.
        """
        cls = type(self)
        path = public_path(cls)
        kinds = argument_kinds(cls)
        arguments = {}
        for name, value in self.spec_arguments().items():
            arguments[name] = _plain(value, f"{path}({name}=...)")
            if kinds.get(name, ()) is None and _holds_configurable(value):
                raise TypeError(
                    f"{path}({name}=...) is annotated as plain data and holds an object; annotate its class"
                )
        return {"class_path": path, "init_args": arguments}

    def spec_arguments(self) -> dict[str, Any]:
        """The constructor arguments to record; override to replace one that only mattered at construction."""
        built = self.__dict__.get("_built", {})
        arguments = dict(self.__dict__.get("_init_arguments", {}))  # none: no class here has a constructor
        for name in built:
            now = _setting(self, name)
            if now is _MISSING or _same(now, built[name]):
                continue
            if name not in arguments:  # of a base class, whose constructor this class calls with values of its own
                raise TypeError(
                    f"{type(self).__qualname__}.{name} was changed, and its constructor takes no {name}: it cannot be "
                    "saved as it is now"
                )
            arguments[name] = now
        return arguments

    def extra_repr(self) -> str:
        """The settings that are plain values: what ``repr`` of a module shows beside its parts."""
        try:
            settings = self.spec_arguments()
        except TypeError:  # what cannot be saved can be shown
            settings = self._init_arguments
        return ", ".join(f"{name}={_SHORT.repr(value)}" for name, value in settings.items() if not _holds_module(value))


@contextmanager
def only_noted() -> Iterator[None]:
    """Constructors of :class:`Configurable` only note their arguments: nothing is allocated, read or downloaded.

    What is constructed is of no use but for :func:`noted_spec`. A function that puts a model together thereby says what
    it is made of, at no cost.
    """
    token = _only_noted.set(True)
    try:
        yield
    finally:
        _only_noted.reset(token)


def noted_spec(value: Any, without: Any = None) -> Any:
    """The arguments that a constructor was given, as plain data; those left to their defaults are not in it.

    Args:
        value: constructed within :func:`only_noted`, or a list or dict of such, or plain.
        without: arguments that are this very object are left out.
    """
    if isinstance(value, Configurable):
        noted = value.__dict__.get("_init_arguments", {})  # none: no class here has a constructor
        given = {name: noted_spec(item, without) for name, item in noted.items() if item is not without}
        return {"class_path": public_path(type(value))} | ({"init_args": given} if given else {})
    if isinstance(value, Mapping):
        return {str(key): noted_spec(item, without) for key, item in value.items()}
    return [noted_spec(item, without) for item in value] if isinstance(value, (list, tuple)) else value


def argument_kinds(cls: type) -> dict[str, tuple[type, ...] | None]:
    """The classes of which each constructor argument may be built; None where it is plain data."""
    constructor = cls.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(inspect.unwrap(constructor))
    except Exception:  # a name that is imported for type checkers alone
        return {}
    hints.pop("return", None)
    return {name: _object_kinds(hint) for name, hint in hints.items()}


def _object_kinds(hint: Any) -> tuple[type, ...] | None:
    if hint is Any or hint is Ellipsis:
        return None
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        if issubclass(hint, Configurable):
            return (hint,)
        plain = issubclass(hint, (*_PLAIN_TYPES, list, tuple, dict, set, frozenset))
        return None if plain else (Configurable,)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return None
    if origin is None or not arguments:
        return (Configurable,) if isinstance(hint, (typing.TypeVar, str)) else None
    parts = arguments[1:] if isinstance(origin, type) and issubclass(origin, Mapping) else arguments
    found = [kinds for part in parts if (kinds := _object_kinds(part)) is not None]
    return tuple(dict.fromkeys(kind for kinds in found for kind in kinds)) or None


def _check_built(made: Any) -> None:
    """Raise if a constructor has left out that of torch's modules, of which the first use would say something else."""
    if hasattr(type(made), "named_modules") and "_modules" not in made.__dict__:
        raise TypeError(f"{type(made).__qualname__}.__init__ has to begin with super().__init__()")


def _flatten(bound: inspect.BoundArguments, signature: inspect.Signature) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:  # without self
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL and value:
            raise TypeError(f"{name}: positional variadic arguments cannot be recorded; take a list")
        if kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(_copied(value))
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = _copied(value)
    return arguments


def _copied(value: Any) -> Any:
    """Containers of their own, since the constructor or the caller may change the ones that were given."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if type(value) in (list, tuple) else value


def _argument_names(cls: type) -> list[str]:
    """Names of the constructor arguments of a class and of its bases."""
    constructors = [base.__dict__["__init__"] for base in cls.__mro__ if "__init__" in base.__dict__]
    return [name for one in constructors if hasattr(one, "__wrapped__") for name in inspect.signature(one).parameters]


def _setting(owner: Any, name: str) -> Any:
    """The attribute of a constructor argument's name, as it would be given to the constructor."""
    for place in (owner.__dict__, owner.__dict__.get("_modules") or {}):
        if name in place:
            return _as_argument(place[name])
    return _MISSING  # a property may compute, and a parameter or buffer is a weight


def _as_argument(value: Any) -> Any:
    """Modules that only hold a setting, as that setting."""
    if isinstance(value, Configurable) or not hasattr(value, "_modules"):
        return _copied(value)
    from torch import nn  # what has modules comes from torch, so it is imported by now

    if isinstance(value, nn.Dropout):
        return value.p
    if isinstance(value, nn.ModuleList):
        return list(value)
    return dict(value.items()) if isinstance(value, nn.ModuleDict) else value


def _same(first: Any, second: Any) -> bool:
    """Whether a setting is what it was; objects are compared by identity, since their own settings are asked for."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, _PLAIN_TYPES) and isinstance(second, _PLAIN_TYPES):
        return type(first) is type(second) and first == second
    return first is second


def _holds_configurable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_configurable, value.values()))
    return isinstance(value, Configurable) or (
        isinstance(value, (list, tuple)) and any(map(_holds_configurable, value))
    )


def _holds_module(value: Any) -> bool:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else [value]
    return any(hasattr(item, "_modules") for item in items)


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    # of a subclass (np.float64, an enum) the plain value: torch.load with weights_only refuses all others
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Configurable):
        return value.spec
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    raise TypeError(
        f"{where} holds a {type(value).__module__}.{type(value).__qualname__}, which cannot be written as plain data; "
        "make it a subclass of itmatch.spec.Configurable (for modules: itmatch.nn.Block)"
    )
