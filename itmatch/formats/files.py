"""Files that are whole or not there: written beside their place, then renamed. And reading text, with clear errors."""

from __future__ import annotations

import codecs
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from itmatch.formats.json import parse_json
from itmatch.formats.temporaries import locked, make_temporary

_OTHER_ENCODINGS = {  # by the mark that such a file begins with; that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a user writes it: ``~`` is the home folder, which only a shell would make of it otherwise."""
    return Path(os.path.expanduser(path))


def existing_file(path: str | Path) -> Path:
    """The path of a file that is there; raises a FileNotFoundError otherwise."""
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: a folder, expected a file" if path.is_dir() else f"{path}: no such file")
    return path


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; what was written takes its place as ``path`` when the block ends without an error.

    A new file has the permissions that the umask leaves, whatever the writer gave it; a file that is replaced hands its
    own on. A link is replaced by the file, and what it points to stays as it is: it may belong to somebody else.

    What was written is on the disk before it is renamed: a crash of the machine leaves the old file or the new one, and
    file systems that count late tell of a full disk in time. The folder itself is not waited for: after a crash that
    comes at once the old file may be back, and it is whole.

    Raises:
        OSError: it could not be written (a full disk, no permission, a folder in its place, a file that is read-only);
            names ``path``, which is as it was before.
    """
    path = user_path(path)
    with _group() as group, _told(path):
        beside = group.room(path)
        yield beside
        with beside.open("r+b") as file:
            os.fsync(file.fileno())
        os.chmod(beside, _mode(path, beside.parent))
        group.written[path] = beside


@contextmanager
def written_together(*, removing: Iterable[str | Path] = ()) -> Iterator[None]:
    """Files that are written in this block by :func:`written_beside` take their places together, when it ends.

    Up to there nothing is changed, so that a disk that gets full leaves all the earlier files. No file system renames
    several files at once: those in ``removing`` go first, then the new ones come one after another, in the order in
    which they were written. That takes less than a millisecond. Write the file last without which the others are not
    read.

    Args:
        removing: files that must not stay beside the new ones.

    Raises:
        OSError: a file could not be removed or put into its place; names it.
    """
    with _group() as group:
        for path in map(user_path, removing):
            with _told(path):
                _check_place(path)
            group.removing.append(path)
        yield


def write_text(path: str | Path, content: str) -> None:
    """Write a text file, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(content, encoding="utf-8")


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 file, without the byte order mark that some editors begin it with.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not UTF-8, or holds the character of number 0, which no text has; names the line.
    """
    path = existing_file(path)
    raw = path.read_bytes()
    check_encoding(raw, path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = error.start + (len(raw) - len(error.object))  # counted without the mark
        line = raw.count(b"\n", 0, place) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte 0x{raw[place]:02x})") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path}:{line}: holds the byte 0x00, expected UTF-8 text (is it UTF-16?)")
    return text


def check_encoding(start: bytes, path: Path) -> None:
    """Refuse a file that begins with the mark of another encoding; ``start`` is its first four bytes, or more.

    Raises:
        ValueError: names the file and the encoding.
    """
    for mark, name in _OTHER_ENCODINGS.items():
        if start.startswith(mark):
            raise ValueError(f"{path}: {name}, expected UTF-8; save it again as UTF-8")


def read_json(path: str | Path, expected: type = dict) -> Any:
    """The content of a json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8, not json, nested too deeply, or its outermost value is not of the ``expected`` type.
    """
    path = user_path(path)
    content = parse_json(read_text(path), path)
    if not isinstance(content, expected):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected a {expected.__name__}")
    return content


class _Group:
    """Files on their way: where each is until it takes its place."""

    def __init__(self) -> None:
        self.written: dict[Path, Path] = {}
        self.removing: list[Path] = []
        self._rooms: dict[Path, Path] = {}

    def room(self, path: Path) -> Path:
        """Where to write a file: under its own name, in a folder that no other writer has.

        In a folder, since some libraries write beside and rename, too: what they leave when they are killed is in it.
        """
        folder = path.parent
        if folder not in self._rooms:
            folder.mkdir(parents=True, exist_ok=True)
            self._rooms[folder] = make_temporary(folder)
        _check_place(path)
        return self._rooms[folder] / path.name

    def take_places(self) -> None:
        """Remove, then rename; other writers of several files wait for it, so that theirs and these are not mixed."""
        with ExitStack() as locks:
            if len(self.written) + len(self.removing) > 1:
                for folder in sorted(self._rooms):
                    locks.enter_context(locked(folder))
            for path in self.removing:
                with _told(path):
                    path.unlink(missing_ok=True)
            for path, beside in self.written.items():
                with _told(path):
                    os.replace(beside, path)

    def clear(self) -> None:
        """Remove what is left."""
        for room in self._rooms.values():
            shutil.rmtree(room, ignore_errors=True)


_CURRENT: ContextVar[_Group | None] = ContextVar("files that are being written", default=None)


@contextmanager
def _group() -> Iterator[_Group]:
    """The group of the block around this one, or a new one, whose files take their places at the end."""
    around = _CURRENT.get()
    if around is not None:
        yield around
        return
    group = _Group()
    token = _CURRENT.set(group)
    try:
        yield group
        group.take_places()
    finally:
        _CURRENT.reset(token)
        group.clear()


def _check_place(path: Path) -> None:
    """Find out before the writing, which may take long, what renaming would find out or, worse, not mind."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no plain file")
    as_itself = os.access in os.supports_effective_ids
    if path.is_file() and not path.is_symlink() and not os.access(path, os.W_OK, effective_ids=as_itself):
        raise PermissionError(errno.EACCES, "the file is read-only")


def _mode(path: Path, room: Path) -> int:
    """The permissions of the file that will be replaced, or those that the umask left to the folder."""
    try:
        there = path.lstat().st_mode
    except FileNotFoundError:
        there = 0
    return there & 0o777 if stat.S_ISREG(there) else room.stat().st_mode & 0o666


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of writing name the file."""
    try:
        yield
    except Exception as error:
        reason = _write_error(error)
        if reason is None:
            raise
        raise OSError(f"{path}: cannot be written ({reason})") from error


def _write_error(error: BaseException | None) -> str | None:
    """Why nothing could be written, if that is what went wrong."""
    if type(error).__name__ == "SafetensorError":  # no OSError; its text holds the number
        number = re.search(r"(?:os error|code:) (\d+)", str(error))
        return None if number is None else os.strerror(int(number[1]))
    while isinstance(error, RuntimeError):  # torch hides it in the context
        error = error.__context__
    return (error.strerror or str(error)) if isinstance(error, OSError) else None
