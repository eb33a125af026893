"""What reads files: each reader with good files to damage, and what it must not make of damaged ones."""

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helpers_binary_damage as binary
import helpers_text_damage as damage
import numpy as np
import torch

from itmatch.__main__ import main


@dataclass(frozen=True, eq=False, repr=False)
class Target:
    """A reader under attack.

    Args:
        area: heading of the tally that it counts to.
        name: of its own.
        write: writes good files into an empty folder.
        read: reads them as the library does.
        kinds: ways to damage each file, by the file's name.
        wrong: what is wrong with something that was read, although nobody complained; None = it may be right.
        named: what an error may name in the place of the file that was damaged.
        seconds: about what one reading takes, if that is much.
    """

    area: str
    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    kinds: dict[str, tuple[Callable[..., bytes], ...]]
    wrong: Callable[[Any], str | None] = lambda found: None
    named: tuple[str, ...] = field(default=())
    seconds: float = 0.0

    def __repr__(self):
        return f"{self.area}: {self.name}"


class Prepared:
    """The good files of a target in a folder, which are damaged one at a time and put back.

    Args:
        target: whose.
        folder: an empty one; it becomes the working folder of each reading.
    """

    def __init__(self, target, folder):
        self.target, self.folder = target, Path(folder)
        target.write(self.folder)
        self.good = {name: (self.folder / name).read_bytes() for name in target.kinds}

    def damaged(self, random):
        """A file's name, and its content after some damage."""
        name = random.choice(sorted(self.target.kinds))
        kind = random.choice(self.target.kinds[name])
        try:
            content = kind(self.good[name], random)
        except (OverflowError, ValueError, KeyError, TypeError, RuntimeError):
            content = damage.flip(self.good[name], random)  # what cannot be written so
        return name, content

    def attempt(self, name, content):
        """Read with one file damaged; returns what came of it ("clear", "silent", ...), and the message."""
        path, here = self.folder / name, Path.cwd()
        path.write_bytes(content)
        os.chdir(self.folder)
        try:
            return self._judged(name)
        finally:
            os.chdir(here)
            path.write_bytes(self.good[name])

    def _judged(self, name):
        label, message = self._read(name)
        marker = Path(damage.MARKER)
        if marker.exists():
            marker.unlink()
            return "silent", "a command was run"
        return label, message

    def _read(self, name):
        try:
            found = self.target.read(self.folder)
        except (ValueError, OSError) as error:
            message = str(error)
            names = (Path(name).name, *self.target.named)
            clear = any(part in message for part in names) and "\n" not in message and len(message) < 1000
            return "clear" if clear else "unclear", f"{type(error).__name__}: {message}"
        except MemoryError as error:
            return "killed", f"MemoryError: {error}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also what ends the process, and panics of Rust
            ends = isinstance(error, SystemExit) or "can't allocate memory" in str(error)
            return "killed" if ends else "traceback", f"{type(error).__name__}: {error}"
        wrong = self.target.wrong(found)
        return ("accepted", "") if wrong is None else ("silent", wrong)


def called(*arguments):
    """``itmatch ARGUMENTS``; an error of one line is raised as the ValueError that it was."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
    if status:
        errors = [line for line in err.getvalue().splitlines() if line.startswith("itmatch: error: ")]
        raise ValueError(errors[0] if errors else f"status {status} and no error: {err.getvalue()} {out.getvalue()}")
    return out.getvalue()


def finite(*arrays):
    """A complaint if an array has a NaN or an infinity."""
    for array in arrays:
        values = torch.as_tensor(np.asarray(array)) if not isinstance(array, torch.Tensor) else array
        if values.is_floating_point() and not bool(values.isfinite().all()):
            return "NaN or inf"
    return None


def as_json(path, content):
    """Write json."""
    path.write_text(json.dumps(content), encoding="utf-8")


BYTES = damage.BYTES
JSON = (damage.json_of, damage.json_of, damage.json_of, *BYTES)
NPY = (binary.npy_of, binary.npy_of, *BYTES)
NPZ = (binary.npz_of, binary.npz_of, *BYTES)
TEXT = (damage.text_of, damage.text_of, *BYTES)
