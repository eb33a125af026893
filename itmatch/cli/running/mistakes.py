"""What is wrong with the settings of a run, in words of this library.

jsonargparse says that something is wrong, in words that change with its versions. What it is, is looked for here, in
the options of its parsers: a name that there is not, a class that there is not, a value of another type, a missing one.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from itmatch.cli.listing import subclasses
from itmatch.cli.running.hints import bases_of, in_words, parts_of, value_of
from itmatch.formats.configs import read_config
from itmatch.formats.messages import meant, reason, shown
from itmatch.formats.nearby import folder_near
from itmatch.spec import Configurable
from itmatch.trust import import_class, public_path

FOR_A_CLASS = {"class_path", "init_args", "dict_kwargs"}
OF_OPTIMIZERS = {"lr": "lr", "learning_rate": "lr", "weight_decay": "weight_decay"}  # whichever optimizer it is
HABITS = {"epochs": "trainer.max_epochs", "seed": "seed_everything"}  # what is meant, of several that fit


def first_mistake(parser: ArgumentParser, arguments: Sequence[str], given_later: Sequence[str] = ()) -> str | None:
    """The first mistake in the arguments of a command, in one line; None if none is found.

    Args:
        parser: of the command.
        arguments: those after the command.
        given_later: settings that need not be given, by their dotted names.
    """
    options = _Options(parser, "")
    for key, value in _settings(arguments):
        if key == "config":
            content = _content(value)
            mistakes = [options.wrong_in(name, entry) for name, entry in content.items()]
        else:
            mistakes = [options.wrong_in(key, value) if key else f"{value!r}: no option; {_instead(value)}"]
        for mistake in filter(None, mistakes):
            return mistake
    return options.missing({name.replace(".init_args", "") for name in given_later})


def _instead(value: str) -> str:
    """What is to be written in the place of something that is no option."""
    run = folder_near(value, "config.yaml")
    if run is not None:
        return f"a run is named by --config {run}/config.yaml --ckpt_path {run}/checkpoints/best.ckpt"
    return "options begin with --"


class _Options:
    """The options of a parser, and what was given to them.

    Args:
        parser: of a command, or of a class.
        path: dotted name of the place, "" = the command.
        of: name of the class.
    """

    def __init__(self, parser: ArgumentParser, path: str, of: str = "") -> None:
        actions = [action for action in parser._actions if action.option_strings]
        self.hints = {one.dest: getattr(one, "_typehint", None) for one in actions if not one.dest.endswith("help")}
        self.switches = {text.lstrip("-") for action in actions for text in action.option_strings}
        self.needed = {action.dest for action in actions if action.required}
        self.path, self.of, self.parser = path, of, parser
        self.given: set[str] = set()
        self.inside: dict[str, _Options] = {}

    def wrong_in(self, key: str, value: Any) -> str | None:
        """What is wrong with one setting; its key may lie deep inside, and its value be settings by name."""
        if key in self.hints and self.hints[key] is not None:
            return self._wrong_value(key, value)
        if isinstance(value, dict) and any(name.startswith(f"{key}.") for name in self.hints):
            found = (self.wrong_in(f"{key}.{name}", inner) for name, inner in value.items())
            return next(filter(None, found), None)
        if key in self.hints or key in self.switches or key.endswith(".help"):
            return None
        above = key
        while (above := above.rpartition(".")[0]) and self.hints.get(above) is None:
            pass
        if above and (of_each := value_of(self.hints[above])) is not None:
            name, _, rest = key.removeprefix(f"{above}.").partition(".")
            self.hints[f"{above}.{name}"] = of_each
            if rest and not bases_of(of_each):
                return None
            return self.wrong_in(key, value)
        if above and bases_of(self.hints[above]):
            return self._wrong_inside(above, key.removeprefix(f"{above}."), value)
        return self._unknown(key)

    def missing(self, given_later: set[str]) -> str | None:
        """What a class needs and was not given; of a command, jsonargparse says it."""
        for name in sorted(self.needed - self.given if self.of else ()):
            if self._full(name) not in given_later and not self._is_passed(name):
                return f"{self.of} needs {name!r}: --{self._full(name)}"
        return next(filter(None, (part.missing(given_later) for part in self.inside.values())), None)

    def _is_passed(self, name: str) -> bool:
        """Whether an optimizer or a scheduler gets it from the training."""
        return name in ("params", "optimizer")

    def _unknown(self, key: str) -> str:
        parent, _, name = key.rpartition(".")
        siblings = {one.rpartition(".")[2] for one in self.hints if one.rpartition(".")[0] == parent}
        if self.of:
            return f"--{self._full(key)}: {self.of} has no {name!r}; {meant(name, siblings)}"
        if parent and siblings:
            return f"--{parent} has no {name!r}; {meant(name, siblings)}"
        close = self._by_its_last_name(key) or self._nearly(key)
        return f"no option --{key}; {f'did you mean {close!r}?' if close else '--help lists them'}"

    def _by_its_last_name(self, key: str) -> str | None:
        """The option whose own name is ``key``, be it one of a class: ``query`` is ``--model.similarity.query``.

        Else the one whose name has ``key`` as a part, if there is only one.
        """
        if key in OF_OPTIMIZERS and "model.optimizer" in self.hints:
            return f"--model.optimizer.{OF_OPTIMIZERS[key]}"
        if HABITS.get(key) in self.hints:
            return f"--{HABITS[key]}"
        names = {one: one.rpartition(".")[2] for one in self.hints}
        equal = (one for one, name in names.items() if name == key)
        exact = next((f"--{one}" for one in equal), None) or next(self._inside_by_name(key), None)
        longer = [one for one, name in names.items() if len(key) > 3 and f"_{key}_" in f"_{name}_"]
        return exact or (f"--{longer[0]}" if len(longer) == 1 else None)

    def _nearly(self, key: str) -> str | None:
        """The option whose whole name, or own name, is nearly ``key``."""
        names = {one.rpartition(".")[2]: one for one in reversed(self.hints)} | {one: one for one in self.hints}
        whole = get_close_matches(key, self.hints, n=1, cutoff=0.8)
        found = whole or get_close_matches(key, names, n=1, cutoff=0.8)
        return f"--{names[found[0]]}" if found else None

    def _inside_by_name(self, key: str) -> Iterator[str]:
        for name, hint in self.hints.items():
            if bases_of(hint) and (name in self.inside or self._take_default(name)) and name in self.inside:
                inside = self.inside[name]
                yield from (f"--{inside._full(one)}" for one in inside.hints if one == key)
                yield from inside._inside_by_name(key)

    def _wrong_value(self, key: str, value: Any) -> str | None:
        hint, full = self.hints[key], self._full(key)
        self.given.add(key)
        bases, of_each = bases_of(hint), value_of(hint)
        if bases_of(of_each) and isinstance(value, (str, dict)):
            entries = _yaml(value) if isinstance(value, str) else value
            found = (self.wrong_in(f"{key}.{name}", entry) for name, entry in (entries or {}).items())
            return next(filter(None, found), None)
        if value is None and self.parser is not None and not _fits(hint, value):
            return f"--{full}: nothing is given, expected {in_words(hint)}"
        if bases and isinstance(value, str):
            content = _yaml(value)
            value = content if isinstance(content, dict) else value
        if bases and isinstance(value, dict) and parts_of(hint) is None:
            return self._wrong_spec(key, value)
        if bases and isinstance(value, str) and os.path.isfile(value):
            return None  # settings may stand in a file, which jsonargparse reads
        if bases and isinstance(value, str) and value != "null" and parts_of(hint) != "dict":
            return self._name_class(key, value)
        if _fits(hint, value) or (bases and not isinstance(value, (str, int, float))):
            return None
        return f"--{full}: {shown(value)}, expected {in_words(hint)}"

    def _wrong_spec(self, key: str, value: dict[str, Any]) -> str | None:
        """Settings of a class: ``{class_path, init_args}``, or its arguments alone."""
        if "class_path" in value:
            for name in value.keys() - FOR_A_CLASS:
                return f"--{self._full(key)} has no {name!r} beside class_path; {meant(name, FOR_A_CLASS)}"
            if wrong := self._name_class(key, str(value["class_path"])):
                return wrong
        arguments = value if not value.keys() & FOR_A_CLASS else value.get("init_args") or {}
        found = (self._wrong_inside(key, name, inner) for name, inner in arguments.items())
        return next(filter(None, found), None)

    def _wrong_inside(self, key: str, name: str, value: Any) -> str | None:
        name = name.removeprefix("init_args.")
        if name == "class_path":
            return self._name_class(key, str(value))
        if name == "init_args" and isinstance(value, dict):
            return self._wrong_spec(key, {"init_args": value})
        if name.startswith("dict_kwargs"):
            return None
        if key not in self.inside and not self._take_default(key):
            return f"--{self._full(key)}.{name}: no class is named before; {self._choices(key)}"
        return self.inside[key].wrong_in(name, value) if key in self.inside else None

    def _take_default(self, key: str) -> bool:
        """Take note of the class that a setting has by default; whether there is one."""
        default = self.parser.get_defaults().get(key)
        path = default.get("class_path") if hasattr(default, "get") else None
        if path is not None:
            self._name_class(key, path)
        return path is not None

    def _name_class(self, key: str, name: str) -> str | None:
        """Take note of the class of a setting; what is wrong with it."""
        bases, full = bases_of(self.hints[key]), self._full(key)
        found, why = _imported(name) if "." in name else (_among((*bases, Configurable)).get(name), "")
        if found is None:
            if _fits(self.hints[key], name):
                return None
            return f"--{full}: no {_names(bases)} {name!r}{why}; {self._choices(key, name)}"
        if not (inspect.isclass(found) and issubclass(found, bases)):
            own = inspect.isclass(found) and not found.__module__.startswith("itmatch.")
            lacks = f", as it is no subclass of {' or '.join(map(public_path, bases))}" if own else ""
            return f"--{full}: {name} is no {_names(bases)}{lacks}; {self._choices(key)}"
        self.given.add(key)
        if key not in self.inside or self.inside[key].of != found.__name__:
            parser = ArgumentParser(exit_on_error=False)
            parser.add_class_arguments(found, fail_untyped=False)
            self.inside[key] = _Options(parser, full, found.__name__)
        return None

    def _choices(self, key: str, name: str = "") -> str:
        choices = _among(bases_of(self.hints[key]))
        said = meant(name.rpartition(".")[2], choices)
        listed = f"there are {', '.join(sorted(choices))}"
        return said if said == listed else f"{said} ({listed})"

    def _full(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _settings(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Keys and values of the options; the key of a word that belongs to none is ""."""
    rest = list(arguments)
    while rest:
        option, has_value, value = rest.pop(0).partition("=")
        if not option.startswith("-"):
            yield "", option
            continue
        given: str | None = value if has_value else None
        if not has_value and rest and not rest[0].startswith("--"):
            given = rest.pop(0)
        key = option.lstrip("-").removesuffix("+")
        yield ("config" if key == "c" else key), given


def _content(config: str | None) -> dict[str, Any]:
    """The settings of a file, or of the text that a preset has become."""
    if config is None:
        return {}
    content = _yaml(config) if "\n" in config else read_config(config) if Path(config).is_file() else None
    return content if isinstance(content, dict) else {}


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value is one of this type, for jsonargparse."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        parser.parse_args([f"--value={value}"]) if isinstance(value, str) else parser.parse_object({"value": value})
    except ArgumentError:
        return False
    return True


def _among(bases: tuple[type, ...]) -> dict[str, type]:
    return {one.__name__: one for base in bases for one in subclasses(base)}


def _imported(name: str) -> tuple[Any, str]:
    """A class by its path, and why there is none."""
    try:
        return import_class(name, "class_path"), ""
    except Exception as error:  # the user's own file may fail in any way
        return None, f" ({reason(str(error).partition('; ')[2] or error)})"


def _names(bases: tuple[type, ...]) -> str:
    return " or ".join(base.__name__ for base in bases)
