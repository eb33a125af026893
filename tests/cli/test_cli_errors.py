"""What a user reads of errors that libraries wrap in others, whatever the words of these."""

import warnings

import pytest
from jsonargparse import ArgumentParser

from itmatch.cli.errors import one_line, plain_errors, told_warnings
from itmatch.errors import UsageError


def wrapped(*texts):
    """An error, raised from one, raised from one ...; the texts from the outermost to the innermost."""
    error = None
    for text in reversed(texts):
        outer = ValueError(text)
        outer.__cause__ = error
        error = outer
    return error


def test_where_is_told_and_then_the_innermost_cause():
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(wrapped("in x:\n  in y:\n    wrong", "in y:\n  wrong", "wrong")) == "in x: in y: wrong"
    assert one_line(wrapped("in x:\n  wrong", "in x:\n  wrong", "wrong")) == "in x: wrong"  # once, though said twice


def test_more_than_a_line_may_say_where():
    assert one_line(wrapped("in x:\nfile y\n  - wrong\n    at all", "wrong\n  at all")) == "in x: file y wrong at all"
    assert one_line(wrapped("in file y: wrong\n  at all", "wrong\nat all")) == "in file y: wrong at all"


def test_a_list_of_alternatives_is_left_out():
    alternatives = "none of them\n- wrong\n- other\ngot 3"
    assert one_line(wrapped("in x:\n" + alternatives, alternatives, "wrong")) == "in x: wrong"
    assert one_line(wrapped("in x:\n\n- no path\n- wrong", "\n- no path\n- wrong", "wrong")) == "in x: wrong"


def test_a_circle_of_causes_ends():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert one_line(first) == "second"


def test_the_command_is_no_part_of_a_key_and_a_configuration_is_asked_for():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--fit.size", type=int)
    for arguments, hint in ((["fit", "--config=x"], ""), (["fit"], r" \(give --config; .*\)")):
        with pytest.raises(UsageError, match=rf'^[^"]*"size".*int.*many{hint}$'), plain_errors(arguments):
            parser.parse_args(["--fit.size=many"])


def test_a_warning_is_a_line_of_the_command():
    before = warnings.formatwarning
    with told_warnings():
        line = warnings.formatwarning("no\n  tokens", UserWarning, "/somewhere/splits.py", 42)
    assert line == "itmatch: warning: no tokens\n"
    assert warnings.formatwarning is before
