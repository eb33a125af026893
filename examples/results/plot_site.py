"""Picture of the built documentation for README.md: the first page, a notebook, and a page of the reference.

    sphinx-build -j auto docs site
    python examples/results/plot_site.py site --figure docs/figures/site.webp

Needs a Chromium, ``pip install playwright`` and Pillow.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PAGES = (
    "index.html",
    "notebooks/relations.html#what-the-model-reads",
    "api/generated/itmatch.nn.CrossAttentionSimilarity.html",
)
WINDOW = {"width": 1200, "height": 900}
SHOWN = 560  # pixels of the width of one of them in the picture
GAP = 12


def pictures(site: Path) -> list[Image.Image]:
    """The pages as they stand in a window."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport=WINDOW)
        found = []
        for page in PAGES:
            name, _, anchor = page.partition("#")
            window.goto(f"{(site / name).resolve().as_uri()}#{anchor}", wait_until="load")
            window.wait_for_timeout(500)  # frames grow to what they show
            found.append(Image.open(io.BytesIO(window.screenshot())))
        browser.close()
    return found


def side_by_side(shown: list[Image.Image]) -> Image.Image:
    """One picture, with a gap between them."""
    height = round(SHOWN * WINDOW["height"] / WINDOW["width"])
    whole = Image.new("RGB", (len(shown) * (SHOWN + GAP) - GAP, height), "#adb5bd")
    for place, one in enumerate(shown):
        whole.paste(one.convert("RGB").resize((SHOWN, height), Image.Resampling.LANCZOS), (place * (SHOWN + GAP), 0))
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    side_by_side(pictures(options.site)).save(options.figure, quality=80)
