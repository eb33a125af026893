"""Building an object from how it was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from itmatch.spec.configurable import Configurable, argument_kinds
from itmatch.trust import import_class, several_modules

_MAX_DEPTH = 40  # of specs and containers in each other; a real model has about ten


def build(spec: Any, expected: type = object, where: str = "spec", *, trusted_modules: Sequence[str] = ()) -> Any:
    """Build the object that a spec describes; anything that is no spec is returned as it is.

    What a spec names is checked before it is imported, and again before it is called: :func:`import_class` says which
    modules are admitted, the class must be a :class:`Configurable` and of the kind that the place asks for. An argument
    that is annotated as plain data (``dict[str, Any]``) stays plain data, whatever it looks like.

    Args:
        spec: ``{"class_path": str, "init_args": dict}``, nested as deep as wanted, or a finished object.
        expected: base class that the result must have.
        where: name of the place, for error messages.
        trusted_modules: modules that may be imported beside those of this library.

    Raises:
        ValueError: the class cannot be found, is not admitted, is not a subclass of ``expected``, or refuses its
            arguments.
    """
    return _build(spec, (expected,), where, several_modules(trusted_modules), 0)


def is_spec(value: Any) -> bool:
    """Whether a value is ``{class_path[, init_args]}``."""
    return isinstance(value, Mapping) and "class_path" in value and set(value) <= {"class_path", "init_args"}


def _build(value: Any, expected: tuple[type, ...], where: str, trusted: tuple[str, ...], depth: int) -> Any:
    if not is_spec(value):
        return value
    if depth > _MAX_DEPTH:
        raise ValueError(f"{where[:80]}...: nested more than {_MAX_DEPTH} deep")
    path, arguments = value["class_path"], value.get("init_args")
    arguments = {} if arguments is None else arguments
    cls = import_class(path, where, trusted)
    if not issubclass(cls, expected):
        wanted = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in expected)
        raise ValueError(f"{where}: {path} is no {wanted}")
    if not issubclass(cls, Configurable):
        raise ValueError(f"{where}: {path} is no itmatch.spec.Configurable; only such classes are rebuilt from a file")
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise ValueError(f"{where}.init_args: a {type(arguments).__name__}, expected the arguments of {path} by name")
    kinds = argument_kinds(cls)
    built = {
        name: _build_nested(argument, kinds.get(name, (Configurable,)), f"{where}.{name}", trusted, depth + 1)
        for name, argument in arguments.items()
    }
    try:
        return cls(**built)
    except (ImportError, MemoryError):
        raise  # of what is not installed, or of the machine
    except Exception as error:  # a constructor may fail in any way on arguments that nobody has checked
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{where}: {path} cannot be built with these arguments ({reason})") from error


def _build_nested(value: Any, kinds: tuple[type, ...] | None, where: str, trusted: tuple[str, ...], depth: int) -> Any:
    if kinds is None:  # plain data, whatever it looks like
        return value
    if depth > _MAX_DEPTH:
        raise ValueError(f"{where[:80]}...: nested more than {_MAX_DEPTH} deep")
    if isinstance(value, (list, tuple)):
        return [_build_nested(item, kinds, f"{where}[{i}]", trusted, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and "class_path" in value and not is_spec(value):
        raise ValueError(f"{where}: has {', '.join(map(str, value))[:100]}, expected class_path and init_args alone")
    if isinstance(value, Mapping) and not is_spec(value):
        return {key: _build_nested(item, kinds, f"{where}.{key}", trusted, depth + 1) for key, item in value.items()}
    return _build(value, kinds, where, trusted, depth)
