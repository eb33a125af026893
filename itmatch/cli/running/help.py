"""What ``itmatch fit --help`` says: the options of this library, and the names of Lightning's.

Making it takes seconds, since all of Lightning is imported to know its options. So it is kept, a file a command, in
``texts``. ``python -m itmatch.cli.running.help`` writes them anew; a test fails where they are out of date.
"""

from __future__ import annotations

import argparse
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from itmatch.formats.files import write_text

_ALL = "all"  # after --help
_KEPT = Path(__file__).parent / "texts"
_LIGHTNING = ("trainer", "checkpoint")  # whose options are Lightning's
_PARTS = {
    "data": "data, and how they come:",
    "model": "model and training:",
    "report": "report of a test:",
    "fragments": "files of a prediction:",
}
_FIRST = ("config", "ckpt_path")  # before all others
_LATER = ("print_config", "seed_everything", "weights_only")
_TEXTS = {
    "config": "A preset (itmatch presets) or a file. Of several the later one counts.",
    "ckpt_path": "A checkpoint, or a model folder. fit goes on from where it has stopped, see --init_from.",
    "seed_everything": "Seed of all random numbers.",
    "print_config": "Print the whole configuration and stop.",
    "weights_only": "Always true.",
}  # in place of what the libraries say
_WIDTH, _INDENT = 100, 34
_END = """itmatch {command} --config photos --data.source.root FOLDER --data.source.captions FILE takes photos,
itmatch {command} --config chan_features --data.source.root FOLDER features, of your own (itmatch data check).
itmatch {command} --help all tells what each of these does, and the types and classes of all options.
--model.similarity.help CLASS lists the options of a class; itmatch list names the classes."""


def takes_all(args: Sequence[str]) -> tuple[list[str], bool]:
    """Arguments without the ``all`` of ``--help all``, and whether it was there.

    Example:
        >>> takes_all(["fit", "--help", "all"])
        (['fit', '--help'], True)
    """
    args = list(args)
    for place, (option, value) in enumerate(pairwise(args)):
        if option in ("-h", "--help") and value == _ALL:
            return [*args[: place + 1], *args[place + 2 :]], True
    return args, False


def short_help(parser: argparse.ArgumentParser, command: str) -> str:
    """The help of a run command: a line or two an option of ours, the names of Lightning's.

    Args:
        parser: of the command.
        command: fit, validate, test or predict.
    """
    actions = [action for action in parser._actions if _named(action)]
    own = [action for action in actions if action.dest.split(".")[0] not in _LIGHTNING]
    general = [action for action in own if action.dest.split(".")[0] not in _PARTS]
    general.sort(key=lambda action: (action.dest not in _FIRST, action.dest in _LATER))  # else in their order
    lines = [f"usage: itmatch {command} --config CONFIG [options]", "", "options:", *_told(general)]
    for part, title in _PARTS.items():
        lines += ["", title, *_told(action for action in own if action.dest.startswith(f"{part}."))]
    names = [_named(action) for action in actions if action.dest.split(".")[0] in _LIGHTNING and "." in action.dest]
    listed = textwrap.wrap(", ".join(names), _WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, "", _of_lightning(), *listed, "", _END.format(command=command), ""])


def kept_help(args: Sequence[str]) -> str | None:
    """The help that is kept of a run command; None where other options are given, or Lightning is of another version.

    Args:
        args: the command, and what was given to it.
    """
    if list(args[1:]) not in (["-h"], ["--help"]):
        return None
    file = _KEPT / f"{args[0]}.txt"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return text if _of_lightning() in text.splitlines() else None


def made_help(command: str) -> str:
    """The help that the parser of a run command makes."""
    from itmatch.cli.training import run  # imports all of Lightning

    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        run([command, "--help"])
    return printed.getvalue()


def _of_lightning() -> str:
    """The line above the names of Lightning's options, which change from version to version."""
    return f"of Lightning {version('lightning')}:"


def _named(action: argparse.Action) -> str:
    """The long name of an option that has a value of its own, or nothing."""
    names = [name for name in action.option_strings if name.startswith("--") and not name.endswith("+")]
    if not names or names[0].endswith("help") or action.help == argparse.SUPPRESS:
        return ""
    return names[0]


def _told(actions: Iterable[argparse.Action]) -> Iterator[str]:
    for action in actions:
        text = _TEXTS.get(action.dest, _first_sentence(action.help or ""))
        default = _shown(action.default)
        text += f" ({'required' if action.required else default})" if action.required or default else ""
        option, *more = textwrap.wrap(text, _WIDTH - _INDENT) or [""]
        name = f"  {_named(action)}"
        if len(name) >= _INDENT:
            yield name
            name = ""
        yield f"{name:{_INDENT}}{option}".rstrip()
        yield from (" " * _INDENT + line for line in more)


def _shown(default: Any) -> str:
    """A default in a few words, or nothing."""
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if isinstance(default, (str, int, float)) and default != argparse.SUPPRESS else ""


def _first_sentence(text: str) -> str:
    plain = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", " ".join(text.split())).replace("``", "")
    plain = re.sub(r"%\(\w+\)s", "", plain)
    found = re.match(r".*?(?<![ .]\w)[.;](?= |$)|.*", plain)
    sentence = (found[0] if found else plain).rstrip(".; ")
    return sentence[:1].upper() + sentence[1:] + "." if sentence else ""


if __name__ == "__main__":
    from lightning.pytorch.cli import LightningCLI

    for name in LightningCLI.subcommands():
        write_text(_KEPT / f"{name}.txt", made_help(name))
