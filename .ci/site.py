"""Opens the built pages of the documentation in a browser, wide and narrow: `python .ci/site.py FOLDER [PAGE ...]`.

No script may fail, nothing may be wider than the window, and nothing may be asked of another site. Without pages, all
but the listings of source code are opened. Ends with status 1 and a line for each thing that is wrong.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (1300, 400)
OVER = "document.documentElement.scrollWidth - window.innerWidth"


def pages_of(folder: Path) -> list[Path]:
    """The pages of a site but the listings of source code."""
    return [page for page in sorted(folder.rglob("*.html")) if "_modules" not in page.parts]


def problems(folder: Path, pages: list[Path]) -> list[str]:
    """What is wrong with the pages, a line each."""
    from playwright.sync_api import sync_playwright

    found: list[str] = []
    browser_path = next((path for path in map(shutil.which, NAMES) if path), None)
    with sync_playwright() as started:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium does not have for root
        browser = started.chromium.launch(executable_path=browser_path, args=[*sandbox, "--disable-dev-shm-usage"])
        window, now = browser.new_page(), [""]
        window.on("pageerror", lambda error: found.append(f"{now[0]}: {error}"))
        window.on("console", lambda told: found.extend(_told(told, now[0])))
        window.on("request", lambda asked: found.extend(_off_site(asked.url, folder, now[0])))
        for page in pages:
            now[0] = str(page.relative_to(folder))
            window.goto(page.resolve().as_uri(), wait_until="load")
            for width in WIDTHS:
                window.set_viewport_size({"width": width, "height": 900})
                over = window.evaluate(OVER)
                found += [f"{now[0]}: {over} pixels wider than a window of {width}"] if over > 0 else []
        browser.close()
    return found


def _told(told: Any, page: str) -> list[str]:
    return [f"{page}: {told.text}"] if told.type in ("error", "warning") else []


def _off_site(url: str, folder: Path, page: str) -> list[str]:
    own = url.startswith((folder.resolve().as_uri(), "data:", "blob:"))
    return [] if own else [f"{page}: asks for {url}"]


if __name__ == "__main__":
    site = Path(sys.argv[1])
    chosen = [site / name for name in sys.argv[2:]] or pages_of(site)
    wrong = problems(site, chosen)
    print("\n".join(wrong) if wrong else f"{len(chosen)} pages at {WIDTHS}: nothing wrong, no request off the site")
    sys.exit(bool(wrong))
