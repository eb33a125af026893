"""Which modules a file from elsewhere may name.

A model folder or a checkpoint names the classes it is made of. What it names is decided upon by its name alone, before
anything is imported: importing a module runs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from typing import Any


def import_class(path: str, where: str = "spec", trusted_modules: Sequence[str] | None = None) -> type:
    """The class of a dotted path.

    Args:
        path: ``package.module.Class``, or ``package.module.Outer.Inner``.
        where: name of the place, for error messages.
        trusted_modules: None: any module may be imported, for paths that a user has typed. Otherwise those of this
            library, those that are imported already, and those named here with what is below them; never a namespace
            package (a folder without ``__init__.py``) or a ``__main__``, which would run a program. The running
            program's own ``__main__`` is looked up, if it is named here.

    Raises:
        ValueError: no such module or attribute, the attribute is no class, or the module is not admitted.
    """
    trusted_modules = None if trusted_modules is None else several_modules(trusted_modules)
    parts = path.split(".") if isinstance(path, str) else []
    if not all(parts):  # "", ".a" or "a..b": import_module would take them for relative
        parts = []
    if trusted_modules is not None and parts:
        _check_admitted(parts, where, trusted_modules)
    for cut in range(len(parts) - 1, 0, -1):  # the longest importable prefix; the rest are nested classes
        found = _module(".".join(parts[:cut]), trusted_modules)
        if found is None:
            continue
        for name in parts[cut:]:
            if trusted_modules is None:
                found = getattr(found, name, None)
            else:  # a module's __getattr__ may import what nobody has named
                found = vars(found).get(name) if hasattr(found, "__dict__") else None
        if inspect.isclass(found):
            return found
        break
    if parts[:1] == ["itmatch"] and len(parts) > 3:  # of a file that was moved since; its room has the class
        return import_class(".".join([*parts[:2], parts[-1]]), where, trusted_modules)
    if trusted_modules is not None and parts and not _is_trusted(".".join(parts), trusted_modules):
        raise ValueError(_not_imported(parts, where))
    named = repr(path)[:200] if isinstance(path, (str, int, float)) else f"a {type(path).__name__}"
    raise ValueError(f"{where}: no class {named}; the file that defines it must be importable from where you are")


def several_modules(trusted: str | Sequence[str]) -> tuple[str, ...]:
    """Names of modules; one alone is one name, not a list of letters."""
    return (trusted,) if isinstance(trusted, str) else tuple(trusted)


def public_path(cls: type) -> str:
    """The dotted path by which a class is recorded: of ours the public one, which stays when a file is moved."""
    parts = cls.__module__.split(".")
    for cut in range(2, len(parts) if parts[0] == "itmatch" else 0):
        room = ".".join(parts[:cut])
        if vars(sys.modules[room]).get(cls.__qualname__) is cls:
            return f"{room}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _not_imported(parts: list[str], where: str) -> str:
    module = ".".join(parts[:-1]) or parts[0]
    return (
        f"{where}: no class {'.'.join(parts)[:200]!r} in what is imported, and a file does not decide what is; if you "
        f"trust it, import it first, or name it: trusted_modules=[{module!r}], on the command line --trust {module}"
    )


def _module(name: str, trusted_modules: Sequence[str] | None) -> Any:
    """A module, imported if it has to be and may be; None if there is none of that name."""
    if name in sys.modules or (trusted_modules is not None and not _is_trusted(name, trusted_modules)):
        return sys.modules.get(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists and lacks a dependency of its own
        return None


def _check_admitted(parts: list[str], where: str, trusted_modules: Sequence[str]) -> None:
    path = ".".join(parts)
    if "__main__" in parts and not (parts[0] == "__main__" and "__main__" in trusted_modules and len(parts) > 1):
        raise ValueError(
            f"{where}: {path!r} is of a program, not of a module; put the class into a file of its own and import it"
        )
    if _is_trusted(path, trusted_modules):
        for name in reversed(_prefixes(parts)):
            if name not in sys.modules and _is_namespace(name):
                raise ValueError(f"{where}: {path!r} is below the folder {name!r}, which has no __init__.py")
        return
    known = next((name for name in _prefixes(parts) if name in sys.modules), None)
    if known is None or _is_namespace(known):
        raise ValueError(_not_imported(parts, where))


def _prefixes(parts: list[str]) -> list[str]:
    """The modules that a path may be of, the longest first."""
    return [".".join(parts[:cut]) for cut in range(len(parts) - 1, 0, -1)]


def _is_trusted(path: str, trusted_modules: Sequence[str]) -> bool:
    return any(f"{path}.".startswith(f"{module}.") for module in ("itmatch", *trusted_modules))


def _is_namespace(name: str) -> bool:
    """Whether a module is a folder without ``__init__.py``; what is above it is imported, it itself is not."""
    if name in sys.modules:
        module = sys.modules[name]
        return getattr(module, "__file__", None) is None and hasattr(module, "__path__")
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return found is not None and found.origin is None and found.submodule_search_locations is not None
