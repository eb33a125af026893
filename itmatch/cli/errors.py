"""What the command line says of errors and doubts."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_only

from itmatch.errors import UsageError
from itmatch.formats.nearby import folder_near
from itmatch.training.processes import trouble

_WARNING = "itmatch: warning: {}"


@contextmanager
def plain_errors(arguments: Sequence[str]) -> Iterator[None]:
    """What jsonargparse, Lightning and torch's loaders wrap or word at length becomes a plain error of one line.

    Args:
        arguments: of the command line, the command first.
    """
    try:
        yield
    except ArgumentError as error:
        message = re.sub(rf"\b{arguments[0]}\.", "", one_line(error))  # jsonargparse puts the command before all keys
        if not any(argument.partition("=")[0] in ("--config", "-c") for argument in arguments):
            message += f" (give --config{_which_config(arguments)})"
        raise UsageError(message) from error
    except MisconfigurationException as error:
        raise ValueError(one_line(error)) from error
    except Exception as error:
        if _of_jsonargparse(error):  # while it built an object
            causes = [cause for cause in _chain(error) if not _of_jsonargparse(cause)]
            if causes:
                raise causes[0] from causes[0].__cause__
            raise ValueError(one_line(error)) from error
        if str(error).startswith("Caught ") and "Original Traceback" in str(error):  # in a loading process
            found = re.findall(r"^\w[\w.]*: (.*)$", str(error), re.MULTILINE)
            raise type(error)(found[-1] if found else str(error)) from error
        if isinstance(error, RuntimeError) and (meaning := trouble(error)) is not None:
            raise OSError(meaning) from error
        raise


def _which_config(arguments: Sequence[str]) -> str:
    """The configuration of the run whose checkpoint is given, or where there are some."""
    words = [part for argument in arguments for part in argument.split("=", 1)]
    given = next((value for name, value in pairwise(words) if name == "--ckpt_path"), "")
    run = folder_near(given, "config.yaml") if given else None
    if run is not None:
        return f" {run}/config.yaml, the settings of that run"
    return "; `itmatch presets` lists those that come with the package"


def one_line(error: BaseException) -> str:
    """What is wrong and where, whatever the words: the innermost cause, and before it what the errors around it add.

    jsonargparse wraps an error once a level (a key, the class there, a key of that class) in one that says where, and
    then what its cause says. An error that says more, such as a list of all forms that a value could have had, is left
    out; its cause is what is wrong with the first of these forms.
    """
    texts = ["\n".join(line.strip() for line in str(one).splitlines() if line.strip()) for one in _chain(error)]
    added = [outer.removesuffix(inner).rstrip("\n -") for outer, inner in pairwise(texts) if outer.endswith(inner)]
    return " ".join(" ".join([*(where for where in added if "\n- " not in f"\n{where}"), texts[-1]]).split())


@rank_zero_only
def warn(message: str) -> None:
    """Say what a user may not have wanted."""
    print(_WARNING.format(message), file=sys.stderr)


@contextmanager
def told_warnings() -> Iterator[None]:
    """Warnings are lines of the command, without the places in files of libraries that they come from."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{_WARNING.format(' '.join(str(message).split()))}\n"
    try:
        with warnings.catch_warnings():
            yield
    finally:
        warnings.formatwarning = before


def _chain(error: BaseException) -> list[BaseException]:
    """An error and its causes."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _of_jsonargparse(error: BaseException) -> bool:
    """Whether it was raised there."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and str(place.tb_frame.f_globals.get("__name__")).partition(".")[0] == "jsonargparse"
