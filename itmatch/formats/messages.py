"""What error messages quote: values, names and other messages, cut short, in one line."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches
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


def counted(number: int, things: str) -> str:
    """A number of things.

    Args:
        number: how many.
        things: their name in the plural, which ends with "s" or "ies".

    Example:
        >>> counted(2, "images"), counted(1, "images"), counted(1, "queries")
        ('2 images', '1 image', '1 query')
    """
    one = f"{things[:-3]}y" if things.endswith("ies") else things.removesuffix("s")
    return f"{number} {things if number != 1 else one}"


def short(text: str) -> str:
    """A text, cut if it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def shown_keys(names: Iterable[Any]) -> str:
    """The names of what there is, for an error message: the first ones of many."""
    words = sorted(map(str, names))
    more = f" and {len(words) - 8} more" if len(words) > 8 else ""
    return ", ".join(map(short, words[:8])) + more or "none"


def close_to(name: str, names: Iterable[str]) -> str | None:
    """The name that somebody who wrote ``name`` may have meant, in letters of either case; None if there is none.

    Example:
        >>> close_to("chan_gru_f3k", ["chan_gru_f30k", "demo"])
        'chan_gru_f30k'
    """
    by_lower = {one.lower(): one for one in names}
    found = get_close_matches(name.lower(), by_lower, n=1) or [one for one in by_lower if name.lower() in one][:1]
    return by_lower[found[0]] if name and found else None


def meant(name: str, names: Iterable[str]) -> str:
    """What is said of a name that there is not: the one that was meant, or all that there are.

    Example:
        >>> meant("queri", ["query", "pooling"])
        "did you mean 'query'?"
        >>> meant("x", ["query", "pooling"])
        'there are pooling, query'
    """
    known = list(names)
    close = close_to(name, known)
    return f"did you mean {close!r}?" if close else f"there are {', '.join(sorted(known)) or 'none'}"


def reason(error: BaseException | str) -> str:
    """The first line of what a library says, cut short, for an error message of one line."""
    return short(next(iter(str(error).strip().splitlines()), "")) or type(error).__name__
