"""Whole pages: one file that needs no other one, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files

from itmatch.ops.checks import check_kind

_FRAME = "width: 100%; max-width: 540px; height: 560px; border: 0; border-radius: 8px"
_FRAMED = "main { max-width: 536px; margin: 0; padding: 8px }"


@cache
def asset(name: str) -> str:
    """The text of a file in ``itmatch/pages/assets``."""
    return files("itmatch.pages").joinpath("assets", name).read_text("utf-8")


def page(title: str, body: str, *, style: str = "", script: str = "", policy: str = "") -> str:
    """A page of HTML with the shared style and script.

    The browser is told to run the scripts given here and no others, to load pictures from the page itself and from
    where it came from, and nothing else from anywhere.

    Args:
        title: text; it is escaped.
        body: HTML, in which every text is escaped.
        style: CSS behind the shared one.
        script: JavaScript behind the shared one.
        policy: more of the content security policy, such as ``connect-src 'self'``.

    Example:
        >>> "<title>a &lt;b&gt;</title>" in page("a <b>", "<p>text</p>")
        True
    """
    check_kind("title", title, str)
    check_kind("body", body, str)
    scripts = [text for text in (asset("explain.js"), script) if text]
    styles = [text for text in (asset("page.css"), style) if text]
    rules = [
        "default-src 'none'",
        "img-src data: blob: 'self'",
        f"style-src {' '.join(map(_hash, styles))}",
        f"script-src {' '.join(map(_hash, scripts))}",
        "base-uri 'none'",
        "form-action 'self'",
        *([policy] if policy else []),
    ]
    head = "".join(
        [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape("; ".join(rules), quote=True)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            *(f"<style>{text}</style>" for text in styles),
        ]
    )
    tail = "".join(f"<script>{text}</script>" for text in scripts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main>{body}</main>{tail}</body></html>\n'


def framed(title: str, body: str) -> str:
    """A page in a frame as high as what it shows: for notebooks, whose style and script are their own.

    Args:
        title: text; it is escaped.
        body: HTML, in which every text is escaped.
    """
    html = escape(page(title, body, style=_FRAMED), quote=True)
    grow = "this.style.height = this.contentDocument.documentElement.offsetHeight + 'px'"
    return f'<iframe srcdoc="{html}" title="{escape(title, quote=True)}" style="{_FRAME}" onload="{grow}"></iframe>'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
