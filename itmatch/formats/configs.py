"""Configurations in YAML that may be damaged, or made to do harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from itmatch.formats.files import read_text
from itmatch.formats.json import MOST_LEVELS, TOO_DEEP
from itmatch.formats.messages import reason, shown

_MOST_CHARACTERS = 16 << 20
_MOST_COPIES = 10_000  # values that the aliases of a configuration may stand for


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of a configuration, if it can be read at all, and in time.

    A few lines of aliases may stand for billions of values. What they stand for is counted here, without building it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no YAML, no settings by name, a name given twice, larger or nested deeper than any configuration, or
            too many aliases.
    """
    from jsonargparse import get_loader
    from yaml import YAMLError

    text = read_text(path)
    try:
        content = limited_yaml(get_loader("yaml"))(text)
    except YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise ValueError(f"{path}{line}: no configuration ({problem or reason(error)})") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"{path}: holds {found}, expected settings by name")
    return content


def limited_yaml(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A loader of YAML that first looks at the size of what it is given.

    It raises a ``yaml.YAMLError`` for what is larger or nested deeper than any configuration, or has too many aliases;
    for a name that is given twice, of which the later would win; and for what the loader has other errors for, such as
    a number of thousands of digits.
    """
    from yaml import YAMLError

    def checked(text: str) -> Any:
        _check_events(text)
        try:
            return load(text)
        except YAMLError:
            raise
        except Exception as error:  # of its converters of dates, numbers and the like
            raise YAMLError(reason(error)) from None

    return checked


def _check_events(text: str) -> None:
    import yaml

    if len(text) > _MOST_CHARACTERS:
        raise yaml.YAMLError(f"{len(text)} characters, expected at most {_MOST_CHARACTERS}")
    sizes: dict[str, int] = {}  # values that an alias stands for, those behind its own aliases included
    around: list[tuple[str | None, int]] = []  # anchor, and values so far, of the lists and dicts that are open
    copies, names = 0, _Names()
    for event in _events(text):
        names.see(event)
        anchor, size = event.anchor if isinstance(event, yaml.NodeEvent) else None, 0
        if isinstance(event, yaml.CollectionStartEvent):
            around.append((anchor, 1))
            if len(around) > MOST_LEVELS:
                raise _refusal(event, TOO_DEEP)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = around.pop()
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == outer for outer, _ in around):
                raise _refusal(event, f"*{anchor} stands for something that it is a part of")
            size = sizes.get(str(anchor), 0)  # of one that stands for nothing the loader tells
            copies += size
            if copies > _MOST_COPIES:
                raise _refusal(event, f"aliases that stand for more than {_MOST_COPIES} values")
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        if anchor is not None:
            sizes[anchor] = size
        if around:
            around[-1] = (around[-1][0], around[-1][1] + size)


class _Names:
    """The names in the dicts that are open, so that one that is given twice is refused."""

    def __init__(self) -> None:
        self._lines: list[dict[tuple[str, str], int] | None] = []  # of each dict where its names are; None = a list
        self._at_name: list[bool] = []  # whether the next value of each is a name

    def see(self, event: Any) -> None:
        """Take the next event of a YAML."""
        import yaml

        if isinstance(event, yaml.CollectionEndEvent):
            self._lines.pop()
            self._at_name.pop()
        elif isinstance(event, yaml.NodeEvent):
            lines = self._lines[-1] if self._lines else None
            if lines is not None and self._at_name[-1] and isinstance(event, yaml.ScalarEvent):
                self._take(lines, event)
            if self._lines:
                self._at_name[-1] = not self._at_name[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                self._lines.append({} if isinstance(event, yaml.MappingStartEvent) else None)
                self._at_name.append(True)

    def _take(self, lines: dict[tuple[str, str], int], event: Any) -> None:
        if event.value == "<<":  # what is merged may come of several
            return
        name = (_kind(event), event.value)
        if name in lines:
            first = lines[name] + 1
            raise _refusal(event, f"{shown(event.value)} is given twice, first on line {first}")
        lines[name] = event.start_mark.line


def _kind(event: Any) -> str:
    """The tag of a scalar: the one that it has, or that its text is taken for; ``1`` and ``"1"`` are two names."""
    import yaml

    return str(event.tag or _resolver().resolve(yaml.ScalarNode, event.value, event.implicit))


@cache
def _resolver() -> Any:
    from yaml.resolver import Resolver

    return Resolver()


def _events(text: str) -> Iterator[Any]:
    import yaml

    yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _refusal(event: Any, problem: str) -> Exception:
    import yaml

    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
