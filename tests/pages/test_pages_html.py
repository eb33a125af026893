"""Pages: texts stay texts, whatever they say, and nothing is loaded from elsewhere."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers_pages import SCENES, Elements, model_of
from PIL import Image

from itmatch.pages import Explanation, Relation, explain, page
from itmatch.pages.pictures import embedded

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"' onmouseover='alert(1)"
SMALL = Explanation(
    text="a dog",
    score=0.5,
    alignment=np.array([[0.1, 0.9], [0.3, 0.2]], np.float32),
    words=["a", "dog"],
    joined=[False, False],
    regions=["dog", "cat"],
    boxes=np.array([[0.1, 0.1, 0.5, 0.5], [0.4, 0.4, 0.9, 0.9]], np.float32),
    relations=[Relation(0, "chasing", 1, 0.5)],
)


def test_chips_boxes_and_arrows():
    split = SCENES.split("test")
    found = explain(
        model_of("resg", min_confidence=0.0),
        split.image(0),
        split.caption(0),
        picture=split.picture(0),
        names=split.names,
    )
    elements = Elements(found.html())
    chips, boxes = elements.of_class("itm-chip"), elements.of_class("itm-box")
    assert [int(chip["data-column"]) for chip in chips] == list(range(len(found.words) + len(found.phrases)))
    assert sorted(int(box["data-row"]) for box in boxes) == list(range(len(found.regions)))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    arrows = elements.of_class("itm-arrow")
    assert [arrow["data-ends"] for arrow in arrows] == [f"{r.subject} {r.object}" for r in found.relations]
    assert [int(arrow["data-row"]) for arrow in arrows] == [len(found.regions) + i for i in range(len(arrows))]
    table = np.array(json.loads(elements.of_class("itm-explain")[0]["data-alignment"]), float)  # null becomes NaN
    regions, words = found.alignment.shape
    np.testing.assert_allclose(table[:regions, :words], found.alignment, atol=1e-4)
    np.testing.assert_allclose(table[regions:, words:], found.relation_alignment, atol=1e-4)
    assert np.isnan(table[:regions, words:]).all()
    assert np.isnan(table[regions:, :words]).all()


def test_patches_of_a_grid_do_not_stop_the_keyboard():
    many = replace(SMALL, regions=["patch"] * 49, boxes=np.full((49, 4), 0.5, np.float32), alignment=np.zeros((49, 2)))
    elements = Elements(many.html())
    assert not any("tabindex" in box for box in elements.of_class("itm-box"))
    assert len(elements.of_class("itm-many")) == 1


def test_a_page_loads_nothing_and_runs_only_its_own_script():
    elements = Elements(SMALL.html())
    assert elements.count("script") == 1
    policy = next(attributes["content"] for tag, attributes in elements.found if "http-equiv" in attributes)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"(?:src|href)=[\"']?https?:", SMALL.html())
    assert elements.count("link") == 0


def test_hostile_texts_do_nothing():
    plain = SMALL.html()
    hostile = replace(
        SMALL, text=HOSTILE, words=[HOSTILE, "dog"], regions=[HOSTILE, "cat"], relations=[Relation(0, HOSTILE, 1)],
        phrases=[], picture=HOSTILE,
    )  # fmt: skip
    for found in (hostile, replace(hostile, boxes=None)):
        elements = Elements(found.html())
        assert elements.count("script") == 1
        assert elements.count("img") == 0
        assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert {tag for tag, _ in Elements(hostile.html()).found} == {"p", *(tag for tag, _ in Elements(plain).found)}
    assert HOSTILE in Elements(hostile.html()).texts
    for picture in ("<svg/>", f"<svg>{HOSTILE}</svg>"):
        elements = Elements(replace(hostile, picture=picture, phrases=[HOSTILE]).html())
        assert (elements.count("script"), elements.count("img")) == (1, 1)
        [image] = [attributes for tag, attributes in elements.found if tag == "img"]
        assert (set(image), image["alt"]) == ({"src", "alt"}, f"Picture for the caption: {HOSTILE}")
    for arguments in ((3, "<p>x</p>"), ("x", None)):
        with pytest.raises(TypeError, match=r"title: a int|body: a NoneType"):
            page(*arguments)
    assert Elements(page(HOSTILE, "<p>x</p>")).count("script") == 1


def test_drawings_are_pictures_so_that_their_scripts_do_not_run():
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100"><script>alert(1)</script></svg>'
    elements = Elements(replace(SMALL, picture=drawing).html())
    assert elements.count("script") == 1
    [source] = [attributes["src"] for tag, attributes in elements.found if tag == "img"]
    assert base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")).decode() == drawing
    overlay = elements.of_class("itm-overlay")[0]
    assert overlay["viewbox"] == "0 0 640 320"
    assert embedded("<svg>").width == 480


def test_photos_are_made_small(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (2000, 1000), "blue").save(path)
    found = embedded(str(path), 320)
    assert (found.width, found.height) == (320, 160)
    assert found.source.startswith("data:image/jpeg;base64,")
    assert len(found.source) < 10_000


@pytest.mark.parametrize("name", ["nothing.png", "../../../../etc/passwd", "\0"])
def test_pictures_that_are_none(tmp_path, name):
    (tmp_path / "text.png").write_text("no picture")
    for picture in (name, str(tmp_path / name), str(tmp_path / "text.png")):
        found = replace(SMALL, picture=picture)
        assert Elements(found.html()).count("img") == 0
        assert "No picture: " in found.html()
    assert "root:" not in replace(SMALL, picture="/etc/passwd").html()


def test_a_picture_under_an_address_of_its_own():
    [source] = [a["src"] for tag, a in Elements(SMALL.fragment(source='/photo?id="1"')).found if tag == "img"]
    assert source == '/photo?id="1"'


def test_boxes_without_area_and_at_the_rim():
    boxes = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    assert len(Elements(replace(SMALL, boxes=boxes).html()).of_class("itm-arrow")) == 1
    same = np.array([[0.2, 0.2, 0.4, 0.4]] * 2, np.float32)
    assert "nan" not in replace(SMALL, boxes=same).html()


def test_figures(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "photo.png"
    Image.new("RGB", (60, 30), "green").save(path)
    for found in (
        SMALL,
        replace(SMALL, picture=str(path)),
        replace(SMALL, boxes=None),
        replace(SMALL, words=["$a", "^$"]),
    ):
        figure = found.figure()
        figure.savefig(tmp_path / "figure.png")
        labels = [label.get_text().replace("\\", "") for label in figure.axes[-2].get_xticklabels()]
        assert labels == found.words


def test_notebooks_show_the_page_in_a_frame():
    shown = Elements(replace(SMALL, text=HOSTILE)._repr_html_())
    ((name, frame),) = shown.found
    assert name == "iframe"
    assert frame["title"] == HOSTILE
    inside = Elements(frame["srcdoc"])
    assert inside.count("iframe") == 0
    assert inside.count("script") == 1
    assert len(inside.of_class("itm-chip")) == 2
