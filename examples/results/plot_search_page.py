"""Pictures of the search page for README.md and docs/serve.md: what an index of the demo looks like in Chromium.

python examples/results/plot_search_page.py INDEX docs/figures
"""

from __future__ import annotations

import argparse
import os
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from itmatch.pages.server.app import SearchApp
from itmatch.pages.server.connections import SearchServer
from itmatch.pages.server.current import CurrentIndex
from itmatch.search import Index


def search(page: Page, folder: Path) -> None:
    """A text, with a word under the mouse; then the captions of the best image."""
    page.fill("#query", "a blue sheep watching a white rabbit")
    page.press("#query", "Enter")
    page.locator("#hits .itm-words").nth(9).wait_for()
    page.hover("#words button:has-text('sheep')")
    page.screenshot(path=folder / "search.png")
    page.locator("#hits .card button:has-text('Captions of this picture')").first.click()
    page.locator("#hits.captions .itm-words").nth(9).wait_for()
    page.locator("#hits .card").first.locator(".itm-words .itm-chip").nth(2).hover()
    page.screenshot(path=folder / "captions.png")


def main() -> None:
    """Serve, browse, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    server = SearchServer(SearchApp(CurrentIndex(Index.open(given.index)), "RelationScenes"), port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as started:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium does not have for root
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = browser.new_page(viewport={"width": 1000, "height": 740})
        page.goto(server.address)
        page.locator("#about:not(:empty)").wait_for()
        search(page, given.folder)
        browser.close()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
