"""The command line: ``itmatch fit | test | index | search | serve ...``; :data:`USAGE` has all commands.

Nothing heavy is imported before it is known to be needed, so that ``--version`` and ``--help`` answer at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from itmatch._version import __version__
from itmatch.errors import UsageError
from itmatch.formats.messages import meant
from itmatch.stopping import CLOSED_OUTPUT, Stopped, finish_output, is_closed, say, signals_raise

RUN_COMMANDS = ("fit", "validate", "test", "predict")
INDEX_COMMANDS = ("index", "search", "serve")
DATA_COMMANDS = ("check", "convert", "scene-graphs", "parse", "choices")
COMMANDS = (
    *RUN_COMMANDS,
    "presets",
    "list",
    "convert",
    "compare",
    "report",
    "choose",
    "judge",
    "extract",
    *INDEX_COMMANDS,
    "data",
)
USAGE = """usage: itmatch COMMAND [options]

Fine-grained image-text matching.

commands:
  fit        train a model, then test the best checkpoint     itmatch fit --config demo
  validate   recalls on the validation split                  itmatch validate --config CONFIG --ckpt_path FILE
  test       recalls on the test split, as table and JSON     itmatch test --config CONFIG --ckpt_path FILE
  predict    write the fragments of images and captions       itmatch predict --config CONFIG --ckpt_path FILE
  presets    list the configurations that come with itmatch   itmatch presets [NAME]
  list       list the parts that a configuration may name     itmatch list [similarities]
  convert    make a model of a public checkpoint file         itmatch convert FILE --format FORMAT --out DIR
  compare    the figures of runs beside each other            itmatch compare RUN RUN --published flickr30k
  extract    make a folder of features of photos              itmatch extract PHOTOS --out FOLDER
  report     write a page about a run                         itmatch report RUN
  choose     right captions against almost right ones         itmatch choose RUN FOLDER
  judge      scores beside the ratings of people              itmatch judge RUN FOLDER --ratings FILE
  index      encode images and captions to search them        itmatch index RUN --out INDEX
  search     images that fit a text, captions of an image     itmatch search INDEX "a red dog"
  serve      a page in the browser that searches an index     itmatch serve INDEX
  data       say what a folder or file of data holds          itmatch data check PATH
             make a folder of features in another layout      itmatch data convert SOURCE --out FOLDER
             write the relations of stored scene graphs       itmatch data scene-graphs FOLDER SPLIT ...
             write the relations of the captions' words       itmatch data parse FOLDER SPLIT ...
             write questions with one relation changed        itmatch data choices FOLDER SPLIT ...

  itmatch COMMAND --help lists the options of a command; itmatch --version prints the version.
  ITMATCH_DEBUG=1 shows the traceback of an error.
"""
DATA_USAGE = """usage: itmatch data check PATH [PATH ...] [options]
       itmatch data convert SOURCE [SOURCE ...] --out FOLDER [options]
       itmatch data scene-graphs FOLDER SPLIT [SPLIT ...] [options]
       itmatch data parse FOLDER SPLIT [SPLIT ...] [options]
       itmatch data choices FOLDER SPLIT [SPLIT ...] [options]

check: say what PATH holds, what is missing, and what is wrong (--help tells more).
convert: make a folder of precomputed features from features in another layout (--help tells more).
scene-graphs: write the relations of stored scene graphs beside precomputed features (--help tells more).
parse: write the relations between the words of the captions beside them (--help tells more).
choices: write captions beside wrong ones with one relation changed, for itmatch choose (--help tells more)."""


def main(arguments: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Run the command line; returns the exit status, of which docs/cli.md has a table.

    Args:
        arguments: the command and its options; None = those of the process.
        own_process: whether the process is for this alone, so that all that is imported stays to its end.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    with signals_raise():
        try:
            status = _call(args, own_process=own_process)
        except SystemExit as end:  # of --help
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except Stopped as stop:
            if stop.message is not None and _process() == "0":
                say(f"itmatch: {stop.message}")
            status = stop.status
        except KeyboardInterrupt:  # a thread that is not the main one has no signals of its own
            status = 130
        except Exception as error:
            status = _report(error)
        closed = finish_output()
    return status or closed


def program() -> NoReturn:
    """Run the command line of this process, and end it."""
    status = main(own_process=True)
    if sys.argv[1:2] == ["serve"]:  # a thread of torch that lets go of something while Python ends aborts the process
        os._exit(status)  # all output is out
    raise SystemExit(status)


def _call(args: list[str], *, own_process: bool) -> int:
    """Run one command."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] == "--version":
        print(__version__)
        return 0
    if args[0] in RUN_COMMANDS:
        from itmatch.cli.running.help import kept_help

        text = kept_help(args)
        if text is not None:
            print(text, end="")
            return 0
        _find_users_files()
        with _imports(own_process=own_process):
            from itmatch.cli.running.configs import with_whole_configs
        arguments = with_whole_configs(args)
        with _imports(own_process=own_process):
            from itmatch.cli.training import run
        run(arguments)
        return 0
    if args[0] in (*INDEX_COMMANDS, "extract"):
        _find_users_files()
    words = 2 if args[0] == "data" else 1
    command = " ".join(args[:words])
    with _imports(own_process=own_process):
        function = _function(command)
    if function is None:
        if args == ["data"] or args[1:2] in (["-h"], ["--help"]):
            print(DATA_USAGE)
            return 0 if args[1:] else 2
        names = [f"data {name}" for name in DATA_COMMANDS] if args[0] == "data" else COMMANDS
        raise UsageError(f"no command {command!r}; {meant(command, names)} (see itmatch --help)")
    from itmatch.cli.parser import call

    return call(command, function, args[words:])


def _function(command: str) -> Callable[..., int | None] | None:
    """The function of a command; one at a time is imported."""
    function: Callable[..., int | None]
    if command == "presets":
        from itmatch.cli.listing import presets as function
    elif command == "list":
        from itmatch.cli.listing import list_classes as function
    elif command == "convert":
        from itmatch.cli.convert import convert as function
    elif command == "compare":
        from itmatch.cli.compare import compare as function
    elif command == "choose":
        from itmatch.cli.choose import choose as function
    elif command == "judge":
        from itmatch.cli.judge import judge as function
    elif command == "extract":
        from itmatch.cli.extract import extract as function
    elif command == "report":
        from itmatch.cli.report import report as function
    elif command == "index":
        from itmatch.cli.index import index as function
    elif command == "search":
        from itmatch.cli.search import search as function
    elif command == "serve":
        from itmatch.cli.serve import serve as function
    elif command == "data check":
        from itmatch.cli.data.check import check as function
    elif command == "data convert":
        from itmatch.cli.data.convert import convert_data as function
    elif command == "data scene-graphs":
        from itmatch.cli.data.scene_graphs import scene_graphs as function
    elif command == "data parse":
        from itmatch.cli.data.parse import parse as function
    elif command == "data choices":
        from itmatch.cli.data.choices import choices as function
    else:
        return None
    return function


@contextmanager
def _imports(*, own_process: bool) -> Iterator[None]:
    """Imports without Python's search for garbage.

    What they make stays to the end. It would be searched many times meanwhile and, unless all that there is by now is
    taken out of the search, which is right in a process of our own, in training too, and as Python ends.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if own_process:
            gc.freeze()
        if was:
            gc.enable()


def _find_users_files() -> None:
    """Classes in the user's own files are named as ``file.Class``; a file there never takes the place of a library's.

    ``python -m itmatch`` has put the working folder first, before the standard library.
    """
    here = os.getcwd()
    sys.path[:] = [*(path for path in sys.path if path not in ("", here)), here]


def _report(error: Exception) -> int:
    """Say in one line what went wrong; returns the exit status.

    Raises:
        Exception: the error, where its traceback is asked for, or needed.
    """
    if isinstance(error, BrokenPipeError) and is_closed(sys.stdout):
        return CLOSED_OUTPUT  # as `head` leaves a program: nobody wants to read about it
    if os.environ.get("ITMATCH_DEBUG") or not _is_for_the_user(error):
        raise error
    who = "" if _process() == "0" else f"process {_process()}: "
    say(f"itmatch: error: {who}{' '.join(str(error).split()) or type(error).__name__}")
    return 2 if isinstance(error, UsageError) else 1


def _process() -> str:
    """Which of the processes on this machine this is, where Lightning or torchrun has started several."""
    return os.environ.get("LOCAL_RANK", "0")


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message says enough; what is left is a mistake in a program, which needs its traceback."""
    told = isinstance(error, (OSError, ValueError, TypeError, ImportError, FloatingPointError, MemoryError))
    return told or type(error).__name__ == "OutOfMemoryError"  # torch's; torch may not be imported


if __name__ == "__main__":
    program()
