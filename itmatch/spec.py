"""Recording how an object was built, as plain data, so that it can be built again.

A checkpoint or a ``config.json`` must rebuild a model without the YAML or the Python that made it. Every block of
this library therefore remembers its own ``{class_path, init_args}``, the same form that jsonargparse reads.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any

Spec = dict[str, Any]


class Configurable:
    """Mixin: an instance remembers the arguments it was constructed with.

    Subclass it (blocks do so through :class:`itmatch.nn.Block`) and nothing else is needed. Arguments have to be
    plain values (None, bool, number, string, path, list, dict of those) or Configurable themselves; a class whose
    constructor takes something else overrides :meth:`spec_arguments`.

    Example:
        >>> class Margin(Configurable):
        ...     def __init__(self, value: float = 0.2) -> None: ...
        >>> Margin(0.1).spec["init_args"]
        {'value': 0.1}
    """

    _init_arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the constructor of every subclass that has one of its own."""
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        original = cls.__init__
        signature = inspect.signature(original)

        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            if "_init_arguments" not in self.__dict__:  # only the outermost: what the caller wrote
                try:
                    bound = signature.bind(self, *args, **kwargs)
                except TypeError as error:
                    raise TypeError(f"{type(self).__qualname__}: {error}") from None
                bound.apply_defaults()
                self.__dict__["_init_arguments"] = _flatten(bound, signature)
            original(self, *args, **kwargs)

        cls.__init__ = __init__  # type: ignore[method-assign]

    @property
    def spec(self) -> Spec:
        """``{"class_path": ..., "init_args": {...}}`` of plain values; :func:`build` makes an equal object of it."""
        cls = type(self)
        path = f"{cls.__module__}.{cls.__qualname__}"
        arguments = self.spec_arguments()
        return {"class_path": path, "init_args": {k: _plain(v, f"{path}({k}=...)") for k, v in arguments.items()}}

    def spec_arguments(self) -> dict[str, Any]:
        """The constructor arguments to record; override to replace one that only mattered at construction."""
        if "_init_arguments" in self.__dict__:
            return dict(self.__dict__["_init_arguments"])
        return {}  # neither this class nor a base has a constructor


def build(spec: Any, expected: type = object, where: str = "spec") -> Any:
    """Build the object that a spec describes; anything that is no spec is returned as it is.

    Args:
        spec: ``{"class_path": str, "init_args": dict}``, nested as deep as wanted, or a finished object.
        expected: base class that the result must have. It is checked before anything is constructed, so a
            file from elsewhere cannot name an arbitrary callable.
        where: name of the place, for error messages.

    Raises:
        ValueError: the class cannot be found, or is not a subclass of ``expected``.
    """
    if not is_spec(spec):
        return spec
    path, arguments = spec["class_path"], spec.get("init_args") or {}
    cls = import_class(path, where)
    if not issubclass(cls, expected):
        raise ValueError(f"{where}: {path} is no {expected.__module__}.{expected.__qualname__}")
    if not issubclass(cls, Configurable):
        raise ValueError(f"{where}: {path} is no itmatch.spec.Configurable; only such classes are rebuilt from a file")
    return cls(**{key: build_nested(value, f"{where}.{key}") for key, value in arguments.items()})


def build_nested(value: Any, where: str) -> Any:
    """:func:`build`, for a value that may be a spec, or a list or dict of specs."""
    if isinstance(value, list):
        return [build_nested(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and not is_spec(value):
        return {key: build_nested(item, f"{where}.{key}") for key, item in value.items()}
    return build(value, Configurable, where)


def is_spec(value: Any) -> bool:
    """Whether a value is a mapping of the form ``{class_path[, init_args]}``."""
    return isinstance(value, Mapping) and "class_path" in value and set(value) <= {"class_path", "init_args"}


def import_class(path: str, where: str = "spec") -> type:
    """Import a class from its dotted path.

    Raises:
        ValueError: no such module or attribute, or the attribute is no class.
    """
    parts = path.split(".") if isinstance(path, str) else []
    if not all(parts):  # "", ".a" or "a..b": import_module would take them for relative
        parts = []
    for cut in range(len(parts) - 1, 0, -1):  # the longest importable prefix; the rest are nested classes
        module = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and not f"{module}.".startswith(f"{error.name}."):
                raise  # the module exists and lacks a dependency of its own
            continue
        for name in parts[cut:]:
            found = getattr(found, name, None)
        if inspect.isclass(found):
            return found
        break
    raise ValueError(f"{where}: no class {path!r}; the file that defines it must be importable from where you are")


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
