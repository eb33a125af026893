"""What the search page sends: answers with their headers, and refusals in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # a drawing that is opened alone runs nothing
_HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # the page of another site shows none of the pictures
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Answer:
    """One answer: its HTTP status, what kind of content it is, and the content.

    Args:
        body: the content.
        kind: its content type.
        status: of HTTP.
        headers: more of them; they win over those that every answer has.
    """

    body: bytes
    kind: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def all_headers(self) -> dict[str, str]:
        """Headers in the order in which they are sent."""
        sizes = {"Content-Type": self.kind, "Content-Length": str(len(self.body)), "Connection": "close"}
        return {**sizes, **_HEADERS, **self.headers}


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: one line for the person who asked.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}

    def answer(self) -> Answer:
        """The answer that says so."""
        return json_answer({"error": self.message}, status=self.status, headers=self.headers)


def json_answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Plain data as JSON; a NaN is an error."""
    body = json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii")
    return Answer(body, "application/json; charset=utf-8", status, headers or {})
