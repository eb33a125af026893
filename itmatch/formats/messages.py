"""What error messages quote: values, names and other messages, cut short, in one line."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

_SHOWN = 160  # characters of something that is quoted


def shown(value: Any) -> str:
    """A value for an error message: its ``repr``, cut short, so that a large one does not fill the screen."""
    short = reprlib.Repr()
    short.maxlevel, short.maxother, short.maxstring, short.maxlong = 3, _SHOWN, _SHOWN, 40
    return short.repr(value)


def is_count(text: str) -> bool:
    """Whether a text is a number of things: ASCII digits, and few enough to be one."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def short(text: str) -> str:
    """A text, cut if it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def shown_keys(names: Iterable[Any]) -> str:
    """The names of what there is, for an error message: the first ones of many."""
    words = sorted(map(str, names))
    more = f" and {len(words) - 8} more" if len(words) > 8 else ""
    return ", ".join(map(short, words[:8])) + more or "none"


def reason(error: BaseException | str) -> str:
    """The first line of what a library says, cut short, for an error message of one line."""
    return short(next(iter(str(error).strip().splitlines()), "")) or type(error).__name__
