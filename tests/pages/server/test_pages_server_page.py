"""The search page in a real browser: what somebody types, points at and drops, and what hostile data cannot do."""

import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from helpers_photos import a_photo
from helpers_server import npy, photo_index, relation_index, scene_index, serving

from itmatch.data import Names
from itmatch.pages.queries import GivenImage, StoredImage, effects_stored, explain_stored

REQUIRED = os.environ.get("ITMATCH_BROWSER") == "required"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DROP = """([content, name, type]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(content)], name, { type }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser():
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None and not REQUIRED:
        pytest.skip(f"no browser: none of {', '.join(NAMES)}")
    if not REQUIRED:
        pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium does not have for root
        browser = started.chromium.launch(executable_path=found, args=[*sandbox, "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextmanager
def page_of(browser, index, *, careful=True, **settings):
    """The page of an index; afterwards: nothing went wrong in it, and nothing was asked of another host."""
    with serving(index) as server:
        page = browser.new_page(**settings)
        page.set_default_timeout(20_000)
        wrong, asked, stopped, dialogs = [], [], [], []
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda request: stopped.append((request.url, request.failure)))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(server.address)
        page.locator("#about:not(:empty)").wait_for()
        yield page
        assert wrong == [] or not careful
        assert dialogs == []
        own = server.address, f"blob:{server.address}"
        outside = [url for url in asked if not url.startswith(own)]
        assert [
            url for url in outside if (url, "csp") not in stopped
        ] == []  # the browser itself has sent none of these
        assert outside == [] or not careful
        page.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return scene_index(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return photo_index(tmp_path_factory.mktemp("photos"))


def look_for(page, text, count):
    page.fill("#query", text)
    page.press("#query", "Enter")
    wait_for(page, "#hits:not(.captions) .itm-words", count)


def wait_for(page, selector, count):
    """Wait until there are so many (the page's policy lets no expression be evaluated while waiting)."""
    page.locator(selector).nth(count - 1).wait_for()
    assert page.locator(selector).count() == count


def lit(card):
    """The regions of a result that are lit, the brightest first."""
    light = "boxes => boxes.map(box => [Number(box.dataset.row), Number(box.style.getPropertyValue('--itm-light'))])"
    found = card.locator(".itm-box").evaluate_all(light)
    return [row for row, value in sorted(found, key=lambda pair: -pair[1]) if value > 0]


def brightest(weights):
    """The region that a word lights up most; where none is met (all 0 or below), none."""
    return [int(weights.argmax())] if weights.max() > 0 or 0 not in weights else []


def test_a_text_finds_images_and_a_word_its_regions(browser, index):
    text = "a red dog left of a blue cat"
    with page_of(browser, index) as page:
        look_for(page, text, 10)
        hits = index.search([text], 10)
        cards = page.locator("#hits .card")
        assert "10 images" in page.inner_text("#status")
        for place in range(10):
            assert hits.ids[0][place] in cards.nth(place).inner_text()
            width = "image => image.complete && image.naturalWidth"
            assert cards.nth(place).locator("img").evaluate(width) > 0
        assert page.locator("#words button").all_inner_texts() == text.split()
        page.locator("#words button").nth(2).hover()
        for place, row in enumerate(hits.rows[0].tolist()):
            alignment = explain_stored(index, row, text).alignment[:, 2]
            assert lit(cards.nth(place))[:1] == brightest(alignment)
        page.mouse.move(1, 1)
        assert lit(cards.first) == []
        box = cards.first.locator(".itm-box").first
        box.hover()
        chosen = explain_stored(index, int(hits.rows[0, 0]), text).alignment[int(box.get_attribute("data-row"))]
        light = "chips => chips.map(chip => Number(chip.style.getPropertyValue('--itm-light')))"
        lights = cards.first.locator(".itm-words .itm-chip").evaluate_all(light)
        assert int(np.argmax(lights)) == int(chosen.argmax())
        assert page.url.endswith("/?q=a+red+dog+left+of+a+blue+cat&top=10")
        page.reload()
        page.wait_for_selector("#hits .card")  # an address can be kept, or sent to somebody


def test_without_a_mouse_on_a_narrow_screen(browser, index):
    with page_of(browser, index, viewport={"width": 400, "height": 800}) as page:
        assert page.evaluate("document.activeElement.id") == "query"
        page.keyboard.type("a red dog")
        page.keyboard.press("Enter")
        wait_for(page, "#hits .itm-words", 10)
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('#words') !== null"):
                break
        assert page.evaluate("document.activeElement.textContent") == "a"
        assert lit(page.locator("#hits .card").nth(9))
        for _ in range(4):
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('.card') !== null")
        assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_words_that_the_model_does_not_know_are_told(browser, index):
    with page_of(browser, index) as page:
        look_for(page, "a red xyzzy", 10)
        assert page.inner_text("#status").endswith("best first. Not in the vocabulary: “xyzzy”.")
        page.fill("#query", "xyzzy plugh")
        page.press("#query", "Enter")
        told = "Not in the vocabulary: “xyzzy”, “plugh”. No word is, so what is found is chance."
        page.locator("#status", has_text=told).wait_for()


def test_a_result_finds_its_captions(browser, index):
    with page_of(browser, index) as page:
        look_for(page, "a red dog", 10)
        page.locator("#hits .card button:has-text('Captions of this picture')").first.click()
        wait_for(page, "#hits.captions .itm-words", 10)
        row = int(index.search(["a red dog"], 1).rows[0, 0])
        hits = StoredImage(index, row).search(10)
        cards = page.locator("#hits .card")
        for place, hit in enumerate(hits[0]):
            assert cards.nth(place).locator(".itm-words .itm-chip").all_inner_texts() == hit.text.split()
        cards.nth(1).locator(".itm-words .itm-chip").nth(3).hover()
        alignment = explain_stored(index, row, hits[0][1].text).alignment[:, 3]
        assert lit(cards.nth(1))[:1] == brightest(alignment)
        look_for(page, "a red dog", 10)
        page.locator("#hits .card p").first.drag_to(page.locator("#drop"))
        wait_for(page, "#hits.captions .itm-words", 10)
        assert cards.first.locator(".itm-words .itm-chip").all_inner_texts() == hits[0][0].text.split()


ADDS = "button:has-text('What each relation adds')"


@pytest.mark.parametrize("width", [1300, 400])
def test_what_each_relation_adds_is_told_when_somebody_asks(browser, tmp_path, width):
    index, text = relation_index(tmp_path), "a red dog left of a blue cat"
    with page_of(browser, index, viewport={"width": width, "height": 900}) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        look_for(page, text, 6)
        wait_for(page, f"#hits {ADDS}", 6)
        assert not any("/relations" in url for url in asked)
        page.locator(ADDS).nth(1).click()
        page.wait_for_selector(".itm-effects")
        assert sum("/relations" in url for url in asked) == 1
        row = int(index.search([text], 6).rows[0, 1])
        found = effects_stored(index, row, text)
        card = page.locator("#hits .card").nth(1)
        names = card.locator(".itm-effect").all_text_contents()
        assert names == [found.called(one) for one, _ in found.effects]
        adds = [float(text) for text in card.locator(".itm-effects td").all_text_contents()]
        assert adds == pytest.approx([effect for _, effect in found.effects], abs=1e-4)
        one = found.effects[0][0]
        card.locator(".itm-effect").first.hover()
        assert set(lit(card)) == {one.subject, one.object}
        arrows = card.locator(".itm-arrow.itm-on").evaluate_all("arrows => arrows.map(arrow => arrow.dataset.ends)")
        assert set(arrows) == {f"{one.subject} {one.object}"}
        page.mouse.move(1, 1)
        assert lit(card) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        card.locator("button:has-text('Captions of this picture')").click()
        wait_for(page, "#hits.captions .itm-words", 10)
        page.locator(ADDS).first.click()
        page.wait_for_selector("#hits.captions .itm-effects")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_where_relations_cannot_be_told_of_the_page_says_so(browser, index, tmp_path):
    with page_of(browser, relation_index(tmp_path, keep_regions=False), careful=False) as page:
        look_for(page, "a red dog", 6)
        page.locator(ADDS).first.click()
        told = "this index does not keep what the model read of the images"
        page.locator("#hits .itm-note", has_text=told).wait_for()
    with page_of(browser, index) as page:  # of a model that reads none
        look_for(page, "a red dog", 10)
        assert page.locator(ADDS).count() == 0


def test_a_picture_that_is_dropped_finds_captions(browser, photos, tmp_path):
    with page_of(browser, photos) as page:
        assert "Drop a picture here" in page.inner_text("#drop")
        page.evaluate(DROP, [list(a_photo("blue")), "<b>blue</b>.jpg", "image/jpeg"])
        page.wait_for_selector("#hits.captions .itm-words")
        assert page.inner_text("#status") == "3 captions for <b>blue</b>.jpg, best first"
        image = page.locator("#hits .card img").first
        assert image.get_attribute("src").startswith("blob:http://127.0.0.1")
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
        (tmp_path / "blue.jpg").write_bytes(a_photo("blue"))
        query = GivenImage.read(photos, tmp_path / "blue.jpg")
        hits = query.search(3)
        for place, row in enumerate(hits.rows[0].tolist()):
            card = page.locator("#hits .card").nth(place)
            assert card.locator(".itm-words .itm-chip").all_inner_texts() == hits[0][place].text.split()
            for word in range(3):
                card.locator(".itm-words .itm-chip").nth(word).hover()
                assert lit(card)[:1] == brightest(query.explain(row).alignment[:, word]), (place, word)
        look_for(page, "a green photo", 3)
        assert (
            page.locator("#hits .card img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
            == 64
        )


def test_what_is_no_picture_is_told_of(browser, index):
    with serving(index) as server:
        page = browser.new_page()  # its console has the refusals
        page.goto(server.address)
        page.locator("#about:not(:empty)").wait_for()
        assert "takes features of regions, not photos" in page.inner_text("#drop")
        page.evaluate(DROP, [list(a_photo()), "a.jpg", "image/jpeg"])
        page.wait_for_selector("#status.error")
        assert "this model takes features of regions, not photos" in page.inner_text("#status")
        features = npy(np.ones((3, 64), np.float32))
        page.set_input_files("#file", {"name": "regions.npy", "mimeType": "application/x-npy", "buffer": features})
        page.wait_for_selector("#hits.captions .itm-words")
        assert page.inner_text("#status") == "10 captions for regions.npy, best first"
        page.close()


HOSTILE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" onload="alert(1)"><script>alert(2)</script>'
    '<image href="http://evil.example/a.png"/><foreignObject><iframe src="http://evil.example/"/></foreignObject></svg>'
)


def test_hostile_data_do_nothing(browser, tmp_path):
    captions = ["<script>window.hacked = 1; alert(1)</script>", "\"><img src=x onerror='window.hacked = 2'> dog"]
    ids = ["<img src=x onerror='window.hacked = 3'>", "../../etc/passwd"]
    index = scene_index(tmp_path, captions=captions, ids=ids, pictures=[HOSTILE] * 2)
    with page_of(browser, index) as page:
        look_for(page, captions[0], 2)
        assert captions[0] in page.inner_text("#status")
        assert {name for name in ids if name in page.inner_text("#hits")} == set(ids)
        page.locator("#hits .card button:has-text('Captions of this picture')").first.click()
        wait_for(page, "#hits.captions .itm-words", 2)
        page.locator("#examples button").first.click()
        wait_for(page, "#hits:not(.captions) .itm-words", 2)
        assert page.evaluate("window.hacked") is None
        assert page.locator("#hits script, #hits iframe, #examples img, #status img").count() == 0


def test_hostile_names_of_relations_do_nothing(browser, tmp_path):
    hostile = "\"><img src=x onerror='window.hacked = 1'>"
    with page_of(browser, relation_index(tmp_path, names=Names([hostile] * 50, [hostile] * 50))) as page:
        look_for(page, "a red dog", 6)
        page.locator(ADDS).first.click()
        page.wait_for_selector(".itm-effects")
        assert hostile in page.locator(".itm-effect").first.inner_text()
        assert page.evaluate("window.hacked") is None
        assert page.locator("#hits .itm-effects img").count() == 0


def test_a_hostile_drawing_that_is_opened_alone_does_nothing(browser, tmp_path):
    index = scene_index(tmp_path, captions=["a", "b"], ids=["a", "b"], pictures=[HOSTILE] * 2)
    with page_of(browser, index, careful=False) as page:
        page.goto(f"{page.url}picture/0")
        page.wait_for_timeout(500)


def test_the_page_without_its_server(browser, index):
    with serving(index) as server:
        page = browser.new_page()
        page.goto(server.address)
        page.locator("#about:not(:empty)").wait_for()
    page.fill("#query", "a dog")
    page.press("#query", "Enter")
    page.wait_for_selector("#status.error")
    assert page.inner_text("#status") == "The server does not answer."
    page.close()
