r"""Picture of the first page of docs/: a caption, its scene, and the same objects with one relation reversed.

    itmatch fit --config cmsei_scenes  # that in docs/: three epochs, --model.similarity.init_args.cross_level null
    python examples/results/plot_twins.py runs/lightning_logs/version_0/checkpoints/last.ckpt \
        --figure docs/figures/first.png

Needs a Chromium and ``pip install playwright``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

STYLE = """
body { max-width: none; width: 1000px; margin: 0; padding: 0 }
header, footer, h1, h2 { display: none }
.twins { display: grid; grid-template-columns: 1fr 1fr; gap: 20px }
figure { margin: 0 } figcaption { font-size: 21px; padding-bottom: 8px } figcaption b { float: right }
"""


def twins_page(checkpoint: Path, caption: int) -> str:
    """A page with one caption beside its image and the twin of it."""
    from itmatch import MatchingTask
    from itmatch.data import RelationScenes
    from itmatch.pages import explain, page

    model = MatchingTask.load_from_checkpoint(checkpoint, map_location="cpu").model
    split = RelationScenes("medium", num_test=40).split("test")
    assert split.caption_twin is not None
    parts = []
    for name, owner in (("its scene", split.caption_image), ("its twin", split.caption_twin)):
        image = int(owner[caption])
        found = explain(
            model, split.image(image), split.captions[caption], picture=split.picture(image), names=split.names
        )
        head = f"<figcaption>{name} <b>score {found.score:.2f}</b></figcaption>"
        parts.append(f'<figure class="twin">{head}{found.fragment()}</figure>')
    return page("Twins", f'<div class="twins">{"".join(parts)}</div>')


def draw(html: str, words: list[int], figure: Path) -> None:
    """Point at words of the caption on both sides, and keep the picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_context(viewport={"width": 1020, "height": 900}, bypass_csp=True).new_page()
        opened.set_content(html)
        opened.add_style_tag(content=STYLE)
        for word in words:
            for half in opened.locator(".itm-explain").all():
                half.locator(f"[data-column='{word}']").first.dispatch_event("mouseover")
        figure.parent.mkdir(parents=True, exist_ok=True)
        opened.locator(".twins").screenshot(path=figure)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--caption", type=int, default=40)
    parser.add_argument("--words", type=int, nargs="+", default=[8])
    options = parser.parse_args()
    draw(twins_page(options.checkpoint, options.caption), options.words, options.figure)
