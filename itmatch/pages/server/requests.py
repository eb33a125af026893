"""What the search page is asked: the options of an address, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

import numpy as np

from itmatch.formats.messages import shown
from itmatch.pages.server.answers import Refused
from itmatch.search import Index

LONGEST_QUERY = 500  # characters


@dataclass(frozen=True)
class Request:
    """One request.

    Args:
        method: of HTTP.
        target: path and options, as they came.
        body: reads what the client sends, which is bounded.
    """

    method: str
    target: str
    body: Callable[[], bytes] = bytes


@dataclass(frozen=True)
class Takes:
    """The options that an address may have.

    Args:
        one_of: exactly one of these has to be there.
        needs: all of these have to be there.
        may: these need not be there.
    """

    one_of: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = " or ".join(self.one_of), " and ".join(self.needs), " and ".join(self.may)
        return ", and ".join(filter(None, parts)) or "nothing"

    def options(self, query: str) -> dict[str, str]:
        """The options behind the question mark of an address, each once.

        Raises:
            Refused: others are there, or one is missing.
            ValueError: they cannot be read.
        """
        found = parse_qs(query, keep_blank_values=True, max_num_fields=10)
        if unknown := sorted(found.keys() - {*self.one_of, *self.needs, *self.may}):
            raise Refused(400, f"no {', '.join(map(shown, unknown))} here, expected {self}")
        for name, values in found.items():
            if len(values) > 1:
                raise Refused(400, f"{name}: {len(values)} times, expected once")
        if missing := [name for name in self.needs if name not in found]:
            raise Refused(400, f"no {' and no '.join(missing)}, expected {self}")
        given = [name for name in self.one_of if name in found]
        if len(given) > 1:
            raise Refused(400, f"{' and '.join(given)}, expected one of them")
        if self.one_of and not given:
            raise Refused(400, f"nothing to look for, expected {self}")
        return {name: values[0] for name, values in found.items()}


@dataclass(frozen=True)
class Call:
    """What a route is told.

    Args:
        last: the last part of the path.
        options: those of the address.
        body: reads what is sent.
        index: what is searched, as it was when the request came.
    """

    last: str
    options: Mapping[str, str]
    body: Callable[[], bytes]
    index: Index

    def query(self) -> str:
        """The text to look for."""
        text = " ".join(self.options["q"].split())
        if not text:
            raise Refused(400, "q: nothing to look for")
        if len(text) > LONGEST_QUERY:
            raise Refused(400, f"q: {len(text)} characters, expected {LONGEST_QUERY} at most")
        return text

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number."""
        text = self.options.get(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
            raise Refused(400, f"{name}: {shown(text)}, expected a whole number from {least} to {most}")
        return int(text)

    def row(self, text: str) -> int:
        """The row of an image by its number, which it keeps whatever is added to the index and deleted."""
        images = self.index.images
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise Refused(404, f"no image {shown(text)}, expected a number of a result")
        row = int(images.rows_of(np.array([int(text)]))[0])
        if row < 0:
            raise Refused(404, f"no image {text} among the {len(images)} of the index")
        return row
