"""A command line is its function: signature and docstring."""

from pathlib import Path
from typing import Literal

import pytest
from helpers_cli import run

from itmatch.__main__ import _function
from itmatch.cli.parser import call, check_one_of, parser_of
from itmatch.errors import UsageError

COMMANDS = ["presets", "list", "convert", "compare", "data check", "data scene-graphs", "data parse"]
called = []


def command(
    folder: Path,
    names: list[str],
    *,
    out: Path,
    sides: tuple[int, int] = (3, 4),
    min_share: float = 0.5,
    form: Literal["a", "b"] | None = None,
    source: str | bool = False,
    fast: bool = False,
) -> None:
    """Do something to 50 % of ``NAME``.

    More of it.

    Args:
        folder: where it is.
        names: what it is called,
            in several lines.
        out: where it goes.
        sides: two numbers.
        min_share: 5 % at least.
        form: of the two.
        source: a file, or any.
        fast: no checks.

    Raises:
        ValueError: never.
    """
    called.append(locals())


def test_arguments_are_those_of_the_signature():
    home = Path("~").expanduser()
    assert call("do", command, ["~/a", "b", "c", "--out", "x"]) == 0
    assert called.pop() == {
        "folder": home / "a",
        "names": ["b", "c"],
        "out": Path("x"),
        "sides": (3, 4),
        "min_share": 0.5,
        "form": None,
        "source": False,
        "fast": False,
    }
    call("do", command, ["a", "b", "--out=~/x_y", "--sides", "1", "2", "--min_share=0.1", "--form", "b", "--fast"])
    found = called.pop()
    assert (found["out"], list(found["sides"]), found["min_share"]) == (home / "x_y", [1, 2], 0.1)
    assert (found["form"], found["fast"]) == ("b", True)
    for given, expected in ((["--source"], True), (["--source", "--a_b"], None), (["--source", "a_b"], "a_b")):
        if expected is None:
            with pytest.raises(UsageError, match="--a-b"):
                call("do", command, ["a", "b", "--out=x", *given])
        else:
            call("do", command, ["a", "b", "--out=x", *given])
            assert called.pop()["source"] == expected


def test_help_is_that_of_the_docstring():
    text = " ".join(parser_of("do", command).format_help().split())
    assert text.startswith("usage: itmatch do [-h] --out OUT")
    assert "FOLDER NAME [NAME ...] Do something to 50 % of NAME. More of it." in text
    assert "NAME what it is called, in several lines" in text
    assert "two numbers (3 4)" in text
    assert "5 % at least (0.5)" in text
    assert "of the two --source" in text
    assert "never" not in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "required: FOLDER, NAME, --out"),
        (["a", "b", "--out=x", "--min-share=many"], "--min-share: invalid float value: 'many'"),
        (["a", "b", "--out=x", "--form=c"], "--form: invalid choice: 'c'"),
        (["a", "b", "--out=x", "--sides", "1"], "--sides: expected 2 arguments"),
        (["a", "b", "--out=x", "--fas"], "unrecognized arguments: --fas"),
    ],
)
def test_wrong_arguments_are_told_of_in_one_line(given, message):
    with pytest.raises(UsageError, match=rf"{message}[^\n]* \(see itmatch do --help\)$"):
        call("do", command, given)


def test_one_of_several():
    check_one_of(first=None, second_one="x")
    with pytest.raises(UsageError, match=r"^one of the arguments --first --second-one is required$"):
        check_one_of(first=None, second_one=False)
    with pytest.raises(UsageError, match=r"^--second-one: not allowed with --first$"):
        check_one_of(first="x", second_one=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    function = _function(name)
    assert function.__doc__
    assert run(*name.split(), "--help") == 0
    assert f"usage: itmatch {name} [-h]" in capsys.readouterr().out
    assert run(*name.split(), "--no-such") == 2
    assert capsys.readouterr().err.count("\n") == 1
