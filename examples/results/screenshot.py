"""Picture of docs/pages.md: a query of the report of a run, with a word under the mouse.

    itmatch fit --config demo
    python examples/results/screenshot.py runs/lightning_logs/version_0/report.html --figure docs/figures/report.png

Needs a Chromium and ``pip install playwright``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path


def screenshot(page: Path, figure: Path, query: int, word: int) -> None:
    """Point at a word of a query, from 0, and keep what the page then shows of that query."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1000, "height": 900})
        opened.goto(page.resolve().as_uri())
        shown = opened.locator(".itm-query").nth(query)
        for half in range(shown.locator(".itm-explain").count()):
            chosen = shown.locator(".itm-explain").nth(half).locator(f"[data-column='{word}']")
            chosen.dispatch_event("mouseover")
        figure.parent.mkdir(parents=True, exist_ok=True)
        shown.screenshot(path=figure)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--query", type=int, default=0)
    parser.add_argument("--word", type=int, default=4)
    options = parser.parse_args()
    screenshot(options.page, options.figure, options.query, options.word)
