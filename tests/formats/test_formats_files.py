"""Files are whole or not there: one and several, with other writers, after a kill, on a full disk, in odd places."""

import errno
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_files import small_files, umask
from safetensors.torch import save_file

from itmatch.data import save_array
from itmatch.formats import temporaries
from itmatch.formats.files import user_path, write_text, written_beside, written_together


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents_of(folder, *names):
    return [(folder / name).read_text() for name in names]


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


# ---------------------------------------------------------------------------------------------------------- one file


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_beside(path) as beside:
        beside.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(UnicodeEncodeError), written_beside(path) as beside:
        beside.write_text("tw\ud800", encoding="utf-8")
    assert contents(path.parent) == {"a.txt": "one"}


def half_of_a_text(path):
    with written_beside(path) as beside, beside.open("w") as file:
        file.write("half")
        file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def weights(path):
    with written_beside(path) as beside:
        save_file({"a": torch.zeros(10_000)}, str(beside))


def checkpoint(path):
    with written_beside(path) as beside, beside.open("wb") as file:
        torch.save(torch.zeros(10_000), file)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "a" * 10_000),
        lambda path: save_array(path, np.zeros(10_000)),
        lambda path: save_array(path, np.zeros((100, 100)).T),
        weights,
        checkpoint,
    ],
)
def test_a_full_disk_is_told_with_the_file_and_the_reason(tmp_path, write):
    path = tmp_path / "a"
    path.write_text("before")
    with small_files(5000), pytest.raises(OSError, match=r".") as caught:
        write(path)
    assert str(caught.value) == f"{path}: cannot be written (File too large)"
    assert contents(tmp_path) == {"a": "before"}


@pytest.mark.parametrize(
    "message",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        'Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
    ],
)
def test_an_error_of_safetensors_is_told_like_others(tmp_path, message):
    SafetensorError = type("SafetensorError", (Exception,), {})
    with pytest.raises(OSError, match=r"a: cannot be written \(No space left on device\)"):  # noqa: SIM117
        with written_beside(tmp_path / "a"):
            raise SafetensorError(message)
    with pytest.raises(SafetensorError, match="no such dtype"), written_beside(tmp_path / "a"):
        raise SafetensorError("no such dtype")
    assert names(tmp_path) == []


def test_an_error_that_is_none_of_writing_stays_what_it_is(tmp_path):
    try:
        raise OSError("of something else")
    except OSError:
        with pytest.raises(ValueError, match="mine"), written_beside(tmp_path / "a"):
            raise ValueError("mine") from None
        with pytest.raises(KeyboardInterrupt), written_beside(tmp_path / "a"):
            raise KeyboardInterrupt from None
    assert names(tmp_path) == []


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    write_text(tmp_path / "a", "one")
    assert done == ["fsync", "rename"]


# ------------------------------------------------------------------------------------------------- modes and places


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
@pytest.mark.parametrize("write", [weights, checkpoint, lambda path: save_array(path, np.zeros(3))])
def test_permissions_are_those_of_the_umask(tmp_path, mask, expected, write):
    with umask(mask):
        write(tmp_path / "a")
    assert oct(mode(tmp_path / "a")) == oct(expected)


def test_a_file_that_is_replaced_hands_its_permissions_on(tmp_path):
    path = tmp_path / "a"
    path.write_text("secret")
    path.chmod(0o640)
    with umask(0o022):
        weights(path)
    assert oct(mode(path)) == oct(0o640)


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    write_text(theirs / "a", "of all")
    (theirs / "a").chmod(0o600)
    ours.mkdir()
    (ours / "a").symlink_to(theirs / "a")
    (ours / "lost").symlink_to(theirs / "nothing")
    with umask(0o022):
        write_text(ours / "a", "mine")
        write_text(ours / "lost", "mine")
    assert contents(ours) == {"a": "mine", "lost": "mine"}
    assert not (ours / "a").is_symlink()
    assert oct(mode(ours / "a")) == oct(0o644)
    assert contents(theirs) == {"a": "of all"}


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    write_text(tmp_path / "link/new/a", "one")
    assert contents(tmp_path / "disk/new") == {"a": "one"}
    assert (tmp_path / "link").is_symlink()


def test_places_that_cannot_be_written_are_found_before_the_writing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "to_folder").symlink_to("folder")
    os.mkfifo(tmp_path / "pipe")
    reasons = {"folder": "Is a directory", "to_folder": "Is a directory", "pipe": "no plain file"}
    before = names(tmp_path)
    for name, reason in reasons.items():
        with pytest.raises(OSError, match=rf"/{name}: cannot be written \({reason}\)"), written_beside(tmp_path / name):
            raise AssertionError  # this would have been a long writing
    assert names(tmp_path) == before


@contextmanager
def as_nobody():
    """For root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_or_a_folder_that_is_read_only():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to others
        folder = Path(name)
        folder.chmod(0o777)
        with as_nobody():
            write_text(folder / "a", "one")
            write_text(folder / "closed/b", "two")
            (folder / "a").chmod(0o444)
            (folder / "closed").chmod(0o555)
            with pytest.raises(OSError, match=r"/a: cannot be written \(the file is read-only\)"):
                write_text(folder / "a", "other")
            with pytest.raises(OSError, match=r"/b: cannot be written \(Permission denied\)"):
                write_text(folder / "closed/b", "other")
            with pytest.raises(OSError, match=r"/a: cannot be written \(the file is read-only\)"):  # noqa: SIM117
                with written_together(removing=[folder / "a"]):
                    raise AssertionError
            (folder / "link").symlink_to("a")
            write_text(folder / "link", "mine")  # takes the place of the link, not of the file
        assert contents_of(folder, "a", "closed/b", "link") == ["one", "two", "mine"]


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_text("~/new/a", "one")
    assert (tmp_path / "new/a").read_text() == "one"
    assert not Path("~").exists()
    assert user_path("~/a") == tmp_path / "a"
    for path in ("a/~", "./a", "~no_such_user/a"):
        assert user_path(path) == Path(path)


# ----------------------------------------------------------------------------------------------------- several files


def test_files_take_their_places_together(tmp_path):
    write_text(tmp_path / "a", "old")
    write_text(tmp_path / "gone", "old")
    with written_together(removing=[tmp_path / "gone", tmp_path / "never_there"]):
        write_text(tmp_path / "a", "new")
        write_text(tmp_path / "folder/b", "new")
        assert (tmp_path / "a").read_text() == (tmp_path / "gone").read_text() == "old"
        assert not (tmp_path / "folder/b").exists()
    assert names(tmp_path) == ["a", "folder"]
    assert (tmp_path / "a").read_text() == (tmp_path / "folder/b").read_text() == "new"
    assert names(tmp_path / "folder") == ["b"]


@pytest.mark.parametrize("error", [ValueError("mine"), OSError("of writing"), KeyboardInterrupt()])
def test_nothing_changes_when_one_of_them_fails(tmp_path, error):
    for name in "abc":
        write_text(tmp_path / name, "old")
    before = contents(tmp_path)
    with pytest.raises(type(error)), written_together(removing=[tmp_path / "c"]):  # noqa: PT012
        write_text(tmp_path / "a", "new")
        with written_beside(tmp_path / "b") as beside:
            beside.write_text("half")
            raise error
    assert contents(tmp_path) == before


def test_they_are_renamed_in_the_order_of_their_writing(tmp_path, monkeypatch):
    done = []
    replace, unlink = os.replace, Path.unlink
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(Path(b).name), replace(a, b)))
    monkeypatch.setattr(Path, "unlink", lambda path, **kw: (done.append(f"-{path.name}"), unlink(path, **kw)))
    with written_together(removing=[tmp_path / "d"]):
        for name in "bca":
            write_text(tmp_path / name, "new")
    assert done == ["-d", "b", "c", "a"]


def test_a_block_within_a_block_waits_for_the_outer_one(tmp_path):
    write_text(tmp_path / "gone", "old")
    with written_together():
        with written_together(removing=[tmp_path / "gone"]):
            write_text(tmp_path / "a", "new")
        assert names(tmp_path)[1:] == ["gone"]
        write_text(tmp_path / "b", "new")
    assert names(tmp_path) == ["a", "b"]


def test_a_file_whose_writing_failed_takes_no_place(tmp_path):
    with written_together():
        with pytest.raises(OSError, match="a: cannot be written"):
            half_of_a_text(tmp_path / "a")
        write_text(tmp_path / "b", "whole")
    assert names(tmp_path) == ["b"]


# -------------------------------------------------------------------------------------------------- other processes


def start(program, *arguments, **options):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


WRITER = """
import sys
from itmatch.formats.files import write_text
for _ in range(200):
    write_text(sys.argv[1], sys.argv[2] * 50_000)
"""


def test_two_processes_write_the_same_file(tmp_path):
    path = tmp_path / "a.txt"
    whole = ["a" * 50_000, "b" * 50_000]
    writers = [start(WRITER, path, letter) for letter in "ab"]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert path.read_text() in whole
            reads += 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert reads > 1
    assert path.read_text() in whole
    assert names(tmp_path) == ["a.txt"]


PAIR = """
import sys
from itmatch.formats.files import write_text, written_together
print("ready", flush=True)
sys.stdin.readline()
with written_together():
    write_text(sys.argv[1] + "/a", "theirs")
    write_text(sys.argv[1] + "/b", "theirs")
print("done", flush=True)
"""


def test_the_files_of_two_writers_are_not_mixed(tmp_path, monkeypatch):
    other = start(PAIR, tmp_path, stdin=subprocess.PIPE)
    assert other.stdout.readline() == "ready\n"
    replace = os.replace

    def slow(old, new):
        replace(old, new)
        if new.name == "a":
            other.stdin.write("go\n")
            other.stdin.flush()
            assert select.select([other.stdout], [], [], 0.5)[0] == []  # it waits

    monkeypatch.setattr(os, "replace", slow)
    with written_together():
        write_text(tmp_path / "a", "ours")
        write_text(tmp_path / "b", "ours")
    assert other.communicate(timeout=30)[0] == "done\n"
    assert contents(tmp_path) == {"a": "theirs", "b": "theirs"}


KILLED = """
import os, sys, time
from itmatch.formats.files import written_beside
with written_beside(sys.argv[1]) as beside:
    beside.write_text("half")
    beside.with_name(".tmpQXzT81").write_text("of a library that writes beside, too")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_writing(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    writer = start(KILLED, path)
    try:
        assert writer.stdout.readline() == "writing\n"
        write_text(path, "two")
        assert len(names(tmp_path)) == 2  # it is still at work
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert len(names(tmp_path)) == 2
    write_text(path, "three")
    assert contents(tmp_path) == {"a.txt": "three"}


def test_what_another_machine_left_is_removed_after_a_day(tmp_path):
    name = temporaries.make_temporary(tmp_path).name
    machine = name.split("-")[1]
    theirs = tmp_path / name.replace(machine, "0" * 8).replace(str(os.getpid()), "999999999")
    theirs.mkdir()
    (theirs / "a.txt").write_text("half")
    others = [tmp_path / ".itmatch-notes.part", tmp_path / "b.part"]  # none of ours
    for place in others:
        place.mkdir()
    old = time.time() - 25 * 60 * 60
    for place in (theirs, *others):
        os.utime(place, (old, old))
    write_text(tmp_path / "a.txt", "one")
    assert theirs.exists()  # its file is new
    os.utime(theirs / "a.txt", (old, old))
    write_text(tmp_path / "a.txt", "one")
    assert names(tmp_path) == sorted([".itmatch-notes.part", name, "a.txt", "b.part"])


def test_the_numbers_of_processes_are_those_of_one_machine(monkeypatch):
    temporaries._machine.cache_clear()
    here = temporaries._machine()
    try:
        temporaries._machine.cache_clear()
        monkeypatch.setattr(os, "readlink", lambda _: "pid:[1]")  # of another container
        assert temporaries._machine() != here
        temporaries._machine.cache_clear()

        def none(*_):
            raise FileNotFoundError

        monkeypatch.setattr(os, "readlink", none)  # no Linux
        monkeypatch.setattr("platform.node", lambda: socket.gethostname())
        assert len(temporaries._machine()) == 8
    finally:
        monkeypatch.undo()
        temporaries._machine.cache_clear()
