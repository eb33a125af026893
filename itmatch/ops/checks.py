"""Settings that are out of range are refused where they are given, in one line; NaN is in no range.

Each function gives the setting back, so that it can stand where the setting is stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeVar

from itmatch.formats.messages import shown
from itmatch.trust import public_path

T = TypeVar("T")


def check_finite(name: str, value: float) -> float:
    """Refuse a setting that is infinite or NaN."""
    return _number(name, value, math.isfinite(_real(name, value)), "a finite number")


def check_not_negative(name: str, value: float) -> float:
    """Refuse a setting that is below 0, infinite or NaN."""
    return _number(name, value, 0 <= _real(name, value) < math.inf, "a finite number that is not negative")


def check_above_zero(name: str, value: float) -> float:
    """Refuse a setting that is 0 or below, infinite or NaN."""
    return _number(name, value, 0 < _real(name, value) < math.inf, "a finite number above 0")


def check_share(name: str, value: float) -> float:
    """Refuse a setting that is not from 0 to 1."""
    return _number(name, value, 0 <= _real(name, value) <= 1, "a number between 0 and 1")


def check_dropout(name: str, value: float) -> float:
    """Refuse a probability of dropout below 0, or of 1, which would leave nothing, or above."""
    return _number(name, value, 0 <= _real(name, value) < 1, "a probability from 0 to below 1")


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Refuse a setting that is no whole number, or a smaller one than ``least``.

    Example:
        >>> check_whole("num_layers", 0)
        Traceback (most recent call last):
            ...
        ValueError: num_layers: 0, expected a whole number, 1 or more
    """
    real = _real(name, value)
    if not (math.isfinite(real) and real == int(real) and real >= least):
        raise ValueError(f"{name}: {value}, expected a whole number, {least} or more")
    return int(value)


def check_whole_or_none(name: str, value: Any, least: int = 1) -> int | None:
    """:func:`check_whole`, for a setting that may be None."""
    return None if value is None else check_whole(name, value, least)


def check_list(name: str, values: Any) -> Sequence[Any]:
    """Refuse a setting that is no list (or tuple)."""
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name}: {values!r}, expected a list of numbers")
    return values


def check_several(name: str, values: T) -> T:
    """Refuse one string where several are expected: its letters would be taken for them.

    Example:
        >>> check_several("captions", "a dog")
        Traceback (most recent call last):
            ...
        TypeError: captions: one string, 'a dog', expected a list of strings
    """
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name}: one string, {shown(values)}, expected a list of strings")
    return values


def check_choice(name: str, value: T, *choices: T) -> T:
    """Refuse a setting that is none of several words (or None)."""
    if value not in choices:
        *before, last = map(repr, choices)
        raise ValueError(f"{name}: {value!r}, expected {', '.join(before)} or {last}")
    return value


def check_place(name: str, index: Any, count: int) -> int:
    """Refuse what is no place among ``count`` things, from 0.

    Raises:
        IndexError: a number beyond them.
        TypeError: something else, such as a name.

    Example:
        >>> check_place("test: image", "dog.jpg", 30)
        Traceback (most recent call last):
            ...
        TypeError: test: image 'dog.jpg', expected a number, from 0 to 29
    """
    if not hasattr(index, "__index__"):
        raise TypeError(f"{name} {shown(index)}, expected a number, from 0 to {count - 1}")
    if not 0 <= index < count:
        raise IndexError(f"{name} {index} of {count}")
    return int(index)


def check_kind(name: str, value: Any, kind: type) -> Any:
    """Refuse an object that is none of a class.

    Example:
        >>> check_kind("margin", "wide", float)
        Traceback (most recent call last):
            ...
        TypeError: margin: a str, expected a builtins.float
    """
    if not isinstance(value, kind):
        path = public_path(kind)
        found = f"the class {value.__qualname__}" if isinstance(value, type) else f"a {type(value).__qualname__}"
        raise TypeError(f"{name}: {found}, expected a{'n' * path.startswith('i')} {path}")
    return value


def check_kind_or_none(name: str, value: Any, kind: type) -> Any:
    """:func:`check_kind`, for an object that may be None."""
    return None if value is None else check_kind(name, value, kind)


def _real(name: str, value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: {value!r}, expected a number")
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.nan


def _number(name: str, value: float, good: bool, expected: str) -> float:  # noqa: FBT001
    if not good:
        raise ValueError(f"{name}: {value}, expected {expected}")
    return value
