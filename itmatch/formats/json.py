"""Json that may be damaged, or made to do harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MOST_LEVELS = 100  # of lists and dicts inside one another; Python itself gives up somewhere near a thousand
TOO_DEEP = f"nested more than {MOST_LEVELS} levels deep"
_MOST_DIGITS = 4000  # of a number; Python refuses to read more than 4300


def parse_json(text: str, path: str | Path, line: int | None = None) -> Any:
    """The value that json stands for.

    Args:
        text: of a file, or of one line of it.
        path: the file, for error messages.
        line: the number of the line, if it is one.

    Raises:
        ValueError: not json, nested too deeply, or with an integer of thousands of digits.
    """
    where = f"{path}:{line}" if line else str(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{line or error.lineno}: not json ({error.msg})") from None
    except RecursionError:
        raise ValueError(f"{where}: {TOO_DEEP}") from None
    except ValueError:  # from the conversion of an integer
        raise ValueError(f"{where}: an integer of more than {_MOST_DIGITS} digits") from None
    level = [content]
    for _ in range(MOST_LEVELS):
        containers = [value for value in level if isinstance(value, (dict, list))]
        level = [child for value in containers for child in (value.values() if isinstance(value, dict) else value)]
        level = [child for child in level if isinstance(child, (dict, list))]
        if not level:
            return content
    raise ValueError(f"{where}: {TOO_DEEP}")
