"""The answers to one query as a page of its own."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from itmatch.formats.messages import counted
from itmatch.pages.page import page

if TYPE_CHECKING:
    from itmatch.pages.queries import Query
    from itmatch.search import Hits

_STYLE = """
.hits { list-style: none; padding: 0; display: grid; gap: 1rem; }
.hits { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.hits li { background: var(--itm-card); border: 1px solid var(--itm-rule); border-radius: 8px; padding: .75rem; }
.hits li { min-width: 0; }
"""


def results_page(title: str, query: Query, hits: Hits) -> str:
    """A page with the answers to a query, the best first, and how the regions and words of each meet.

    Args:
        title: what was looked for.
        query: explains the answers.
        hits: of this one query.
    """
    cards = [
        f"<li>{query.explain(row).fragment()}<p><strong>{hit.rank}.</strong> "
        f"{escape(hit.id) if hit.text is None else ''} "
        f'<span class="itm-note">score {hit.score:.4f}</span></p></li>'
        for hit, row in zip(hits[0], hits.rows[0].tolist(), strict=False)
    ]
    count = f"{counted(len(cards), hits.kind)}, best first"
    words = ", ".join(hits.unknown[0])
    unknown = f'<p class="itm-note">Not known to the model: {escape(words)}</p>' if words else ""
    body = f'<h1>{escape(title)}</h1><p class="itm-note">{count}</p>{unknown}<ol class="hits">{"".join(cards)}</ol>'
    return page(title, body, style=_STYLE)
