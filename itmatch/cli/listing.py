"""``itmatch list`` and ``itmatch presets``: what a configuration may name."""

from __future__ import annotations

import inspect
import sys

from itmatch.errors import UsageError
from itmatch.formats.messages import meant
from itmatch.trust import import_class

KINDS = {
    "encoders": ("itmatch.nn", ("ImageEncoder", "TextEncoder")),
    "pooling": ("itmatch.nn", ("Pooling",)),
    "relations": ("itmatch.nn", ("Relation",)),
    "similarities": ("itmatch.nn", ("Similarity",)),
    "losses": ("itmatch.losses", ("Loss",)),
    "negatives": ("itmatch.losses", ("Negatives",)),
    "sources": ("itmatch.data", ("DataSource",)),
    "tokenizers": ("itmatch.data", ("Tokenizer",)),
    "protocols": ("itmatch.evaluation", ("EvaluationProtocol",)),
}
OTHERS = {"presets": "configurations, for --config", "systems": "models as a whole, for `system` in a configuration"}


def presets(name: str | None = None) -> None:
    """Without NAME: list the presets. With NAME: print that preset's whole configuration, as --config takes it.

    Args:
        name: of a preset.
    """
    from itmatch.presets import describe_presets, preset_text

    print(describe_presets() if name is None else preset_text(name).rstrip())


def list_classes(kind: str | None = None) -> None:
    """Without KIND: list the kinds of parts. With KIND: list what there is of it, a line each.

    Args:
        kind: encoders, pooling, relations, similarities, losses, negatives, sources, tokenizers, protocols, presets
            or systems.
    """
    kinds = [*KINDS, *OTHERS]
    if kind is None:
        named = {name: f"{' or '.join(bases)} in {room}" for name, (room, bases) in KINDS.items()} | OTHERS
        print(_lines(named))
    elif kind == "presets":
        from itmatch.presets import describe_presets

        print(describe_presets())
    elif kind == "systems":
        from itmatch.models.systems.by_name import SYSTEMS

        print(_lines({name: _first_line(function) for name, function in SYSTEMS.items()}))
    elif kind in KINDS:
        room, bases = KINDS[kind]
        found = [one for base in bases for one in subclasses(import_class(f"{room}.{base}"))]
        print(_lines({one.__name__: _first_line(one) for one in found}))
    else:
        raise UsageError(f"no kind {kind!r}; {meant(kind, kinds)}")


def subclasses(base: type) -> list[type]:
    """Classes of a kind that somebody may name: public, and whole ones; the base itself if it is one."""
    found: list[type] = []
    rest = [base]
    while rest:
        one = rest.pop(0)
        rest += sorted(one.__subclasses__(), key=lambda found: found.__name__)
        whole = not inspect.isabstract(one) and (one is not base or not one.__subclasses__())
        if whole and one not in found and not one.__name__.startswith("_") and _is_offered(one):
            found.append(one)
    return sorted(found, key=lambda one: one.__name__)


def _is_offered(one: type) -> bool:
    """A class of this library is one if its room offers it; of others, any."""
    if not one.__module__.startswith("itmatch."):
        return True
    room = sys.modules[".".join(one.__module__.split(".")[:2])]
    return getattr(room, one.__name__, None) is one


def _first_line(one: object) -> str:
    return (inspect.getdoc(one) or "").partition("\n")[0]


def _lines(told: dict[str, str]) -> str:
    width = max(map(len, told))
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in told.items())
