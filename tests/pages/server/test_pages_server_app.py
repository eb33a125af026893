"""What the search page answers: results, pictures and explanations, and nothing that is not in the index."""

import io
import json
import os
import re

import numpy as np
import pytest
import torch
from helpers_photos import a_photo
from helpers_server import POLICY, get, npy, photo_index, scene_index, serving

from itmatch.data import RelationScenes
from itmatch.pages.queries import explain_stored


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return scene_index(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def server(index):
    with serving(index) as server:
        yield server


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    with serving(photo_index(tmp_path_factory.mktemp("photos"))) as server:
        yield server


def test_the_page_and_its_files(server):
    for target, kind in (
        ("/", "text/html"),
        ("/assets/search.js", "text/javascript"),
        ("/assets/search.css", "text/css"),
    ):
        status, headers, content = get(server, target)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert len(content) > 500
        assert b"http://" not in content.replace(b"http://www.w3.org/2000/svg", b"")  # a name, which nobody fetches
        assert b"https://" not in content


@pytest.mark.parametrize("target", ["/", "/about", "/search?q=a+dog", "/search", "/nothing", "/explain?q=a&image=0"])
def test_every_answer_keeps_the_browser_careful(server, target):
    _, headers, _ = get(server, target)
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_a_text_finds_images(server, index):
    status, _, content = get(server, "/search?q=a+red++dog&top=4")
    hits = index.search(["a red dog"], top=4)
    assert (status, content["kind"]) == (200, "images")
    assert [hit["number"] for hit in content["hits"]] == hits.rows[0].tolist()
    assert [hit["id"] for hit in content["hits"]] == [hit.id for hit in hits[0]]
    assert [hit["rank"] for hit in content["hits"]] == [1, 2, 3, 4]
    assert [hit["picture"] for hit in content["hits"]] == [f"/picture/{hit['number']}" for hit in content["hits"]]
    np.testing.assert_allclose([hit["score"] for hit in content["hits"]], hits.scores[0].numpy())


def test_unknown_words_are_told(server):
    for text, unknown, chance in (
        ("a+red+dog", [], False),
        ("a+xyzzy+dog+plugh", ["xyzzy", "plugh"], False),
        ("xyzzy", ["xyzzy"], True),
    ):
        content = get(server, f"/search?q={text}")[2]
        assert (content["unknown"], content["chance"]) == (unknown, chance)
    assert get(server, "/search?image=1")[2]["unknown"] == []


def test_an_image_of_the_index_finds_captions(server, index):
    status, _, content = get(server, "/search?image=3&top=2")
    hits = index.search(index.images.fragments([3])[:].to(dtype=torch.float32), top=2, kind="captions")
    assert (status, content["kind"], content["picture"]) == (200, "captions", "/picture/3")
    assert [hit["text"] for hit in content["hits"]] == [hit.text for hit in hits[0]]


def test_about(server, index):
    _, _, content = get(server, "/about")
    assert (content["images"], content["captions"]) == (len(index.images), len(index.captions))
    assert (content["takes_photos"], content["features"]) == (False, 64)
    assert set(content["examples"]) <= set(index.captions.texts)


def test_a_text_is_explained_at_an_image(server, index):
    status, _, content = get(server, "/explain?q=a+red+dog&image=2")
    assert (status, content["words"]) == (200, ["a", "red", "dog"])
    assert content["html"] == explain_stored(index, 2, "a red dog").fragment(source="/picture/2")
    table = np.asarray(json.loads(re.search(r'data-alignment="([^"]*)"', content["html"])[1]))
    item = RelationScenes(num_test=20).split("test").image(2)
    expected = index.model.align(item.features[None], "a red dog")[:, 1:4]  # without the tokens of the frame
    np.testing.assert_allclose(table, expected, atol=2e-3)  # the index has float16


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/search", 400, "nothing to look for, expected q or image, and top"),
        ("/search?q=", 400, "q: nothing to look for"),
        ("/search?q=a&image=2", 400, "q and image, expected one of them"),
        ("/search?q=&image=2", 400, "q and image, expected one of them"),
        ("/search?text=a", 400, "no 'text' here, expected q or image, and top"),
        ("/search?q=a&n=5&k=5", 400, "no 'k', 'n' here, expected q or image, and top"),
        ("/search?q=a&q=b", 400, "q: 2 times, expected once"),
        ("/search?q=a&top=", 400, "top: '', expected a whole number from 1 to 100"),
        ("/explain?q=a&image=1&top=3", 400, "no 'top' here, expected q and image"),
        ("/picture/1?size=3", 400, "no 'size' here, expected nothing"),
        ("/about?q=a", 400, "no 'q' here, expected nothing"),
        ("/?query=a", 400, "no 'query' here, expected q and top"),
        ("/search?q=+%0a+", 400, "q: nothing to look for"),
        ("/search?q=" + "a" * 501, 400, "q: 501 characters, expected 500 at most"),
        ("/search?q=a&top=0", 400, "top: '0', expected a whole number from 1 to 100"),
        ("/search?q=a&top=101", 400, "top: '101', expected"),
        ("/search?q=a&top=1e9", 400, "top: '1e9', expected"),
        ("/search?q=a&top=-1", 400, "top: '-1', expected"),
        ("/search?q=a&top=%D9%A3", 400, "top: '٣', expected"),
        ("/search?image=20", 404, "no image 20 among the 20 of the index"),
        ("/explain?q=a", 400, "no image, expected q and image"),
        ("/explain?image=1", 400, "no q, expected q and image"),
        ("/explain?q=+&image=1", 400, "q: nothing to look for"),
        ("/explain?q=a&image=", 404, "no image '', expected a number of a result"),
        ("/picture/20", 404, "no image 20"),
        ("/picture/" + "9" * 5000, 404, "no image '9999"),
        ("/search?" + "&".join(["q=a"] * 50), 400, "an address that cannot be read"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(server, target, status, error):
    found, _, content = get(server, target)
    assert found == status
    assert content["error"].startswith(error)
    assert len(content["error"]) < 300


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/picture/../../../etc/passwd",
        "/picture/..%2f..%2f..%2fetc%2fpasswd",
        "/picture/%2e%2e/%2e%2e/etc/passwd",
        "/picture//etc/passwd",
        "/picture/1/",
        "/picture/-1",
        "/picture/0x1",
        "/picture/1%00.jpg",
        "/picture/1%0a",
        "/assets/../app.py",
        "/assets/..%2fapp.py",
        "/assets/",
        "/assets/app.py",
        "/assets/search.js%00",
        "/assets//etc/passwd",
        "/assets/%5c..%5capp.py",
        "/search.html",
        "/index/manifest.json",
        "http://127.0.0.1/etc/passwd",
    ],
)
def test_no_address_leads_to_a_file(server, target):
    status, _, content = get(server, target)
    assert status == 404
    assert "root:" not in str(content)


def test_options_of_what_is_sent(server):
    for target, error in (
        ("/search?q=a", "no 'q' here, expected top"),
        ("/search?image=1", "no 'image' here, expected top"),
    ):
        status, _, content = get(server, target, "POST", npy(np.ones((3, 64))))
        assert (status, content["error"]) == (400, error)


def test_an_index_without_captions(tmp_path):
    with serving(scene_index(tmp_path, captions=[], ids=["a", "b"], pictures=None)) as server:
        about = get(server, "/about")[2]
        assert (about["images"], about["captions"], about["examples"]) == (2, 0, [])
        assert len(get(server, "/search?q=a+dog")[2]["hits"]) == 2
        for method, target in (("GET", "/search?image=0"), ("POST", "/search")):
            status, _, content = get(server, target, method, b"x" if method == "POST" else None)
            assert (status, content["error"]) == (404, "this index holds no captions")


def test_hostile_texts_and_ids_stay_text(tmp_path):
    captions = ['<script>alert(1)</script> "dog"', "</title><img src=x onerror=alert(2)>"]
    index = scene_index(tmp_path, captions=captions, ids=["../../etc/passwd", "<b>bold</b>"], pictures=None)
    with serving(index) as server:
        _, headers, content = get(server, "/search?image=0")
        assert {hit["text"] for hit in content["hits"]} == set(captions)
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        _, _, content = get(server, "/search?q=%3Cscript%3Ealert(1)%3C/script%3E")
        assert {hit["id"] for hit in content["hits"]} == {"../../etc/passwd", "<b>bold</b>"}
        assert get(server, "/picture/../../etc/passwd")[0] == 404
        assert get(server, "/picture/0")[0] == 404  # no picture is known, whatever the id says


def test_a_drawing_runs_nothing(tmp_path):
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>'
    with serving(scene_index(tmp_path, pictures=[drawing] * 20)) as server:
        status, headers, content = get(server, "/picture/0")
    assert (status, content.decode()) == (200, drawing)
    assert headers["Content-Type"] == "image/svg+xml; charset=utf-8"
    assert headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_photo_is_written_anew(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    large = Image.effect_noise((2400, 1200), 30).convert("RGB")
    large.save(tmp_path / "large.jpg", exif=Image.Exif(), comment=b"a secret")
    (tmp_path / "page.jpg").write_text("<script>alert(1)</script>")
    (tmp_path / "bomb.png").write_bytes(bomb())
    os.mkfifo(tmp_path / "pipe.jpg")
    pictures = [str(tmp_path / name) for name in ("large.jpg", "page.jpg", "bomb.png", "pipe.jpg", "missing.jpg")]
    pictures += ["/etc/passwd", "/dev/zero", str(tmp_path), "a\0b", "../../etc/passwd"]
    with serving(scene_index(tmp_path / "index", pictures=pictures + [None] * 10)) as server:
        status, headers, content = get(server, "/picture/0")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(content)).size == (800, 400)
        assert b"a secret" not in content
        for row in range(1, 11):
            status, headers, content = get(server, f"/picture/{row}")
            assert status == 404, pictures[row]
            assert headers["Content-Type"] == "application/json; charset=utf-8"
            assert "root:" not in str(content)


def bomb(side=20_000):
    """A photo of few bytes and 400 million pixels."""
    Image = pytest.importorskip("PIL.Image")
    with io.BytesIO() as file:
        Image.new("1", (side, side)).save(file, "PNG")
        return file.getvalue()


def test_features_find_captions(server, index):
    features = np.random.default_rng(0).standard_normal((5, 64))
    hits = index.search(torch.from_numpy(features.astype(np.float32))[None], top=3)
    for array in (features, features[None], features.astype(np.float32)):
        status, _, content = get(server, "/search?top=3", "POST", npy(array))
        assert (status, content["kind"]) == (200, "captions")
        assert [hit["text"] for hit in content["hits"]] == [hit.text for hit in hits[0]]
        assert content["hits"][0]["html"].count("data-row=") == 5


def pickled():
    with io.BytesIO() as file:
        np.save(file, np.array([print], dtype=object), allow_pickle=True)
        return file.getvalue()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            b"",
            "the file: this model takes features of regions, not photos; expected a .npy file of features (regions, 6",
        ),
        (b"GIF89a", "the file: this model takes features of regions, not photos"),
        (npy(np.zeros((5, 63))), "the file: float64 of shape (5, 63), expected features (regions, 64)"),
        (npy(np.zeros((2, 5, 64))), "the file: float64 of shape (2, 5, 64), expected"),
        (npy(np.zeros((0, 64))), "the file: float64 of shape (0, 64), expected"),
        (npy(np.zeros((1001, 64))), "the file: float64 of shape (1001, 64), expected"),
        (npy(np.zeros((5, 64), int)), "the file: int64 of shape (5, 64), expected"),
        (npy(np.full((5, 64), np.nan)), "the file: NaN or inf in the features"),
        (npy(np.full((5, 64), 1e300)), "the file: NaN or inf in the features"),
        (npy(np.zeros((5, 64)))[:-8], "the file: truncated"),
        (npy(np.zeros((5, 64))).replace(b"(5, 64)", b"(5, 10**9)"), "the file: not a .npy file"),
        (pickled(), "the file: holds pickled Python objects"),
        (b"\x93NUMPY\x01\x00", "the file: not a .npy file"),
    ],
)
def test_what_is_no_features_is_told_in_one_line(server, body, error):
    status, _, content = get(server, "/search", "POST", body)
    assert status == 400
    assert content["error"].startswith(error)


def test_a_photo_finds_captions(photos):
    status, _, content = get(photos, "/search?top=2", "POST", a_photo())
    assert (status, content["kind"], len(content["hits"])) == (200, "captions", 2)
    assert get(photos, "/about")[2]["takes_photos"]
    assert content["hits"][0]["html"].count("data-row=") == 4  # patches
    assert 'src="blob:sent"' in content["hits"][0]["html"]  # which the page has


@pytest.mark.filterwarnings("ignore:Image size")
def test_what_is_no_photo_is_told_in_one_line(photos):
    jpeg = a_photo()
    for body, error in (
        (b"", "no image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image that can be read"),
        (jpeg[: len(jpeg) // 2], "no image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image that can be read"),
        (bomb(), "no image that can be read (Image size (400000000 pixels) exceeds"),
        (bomb(12_000), "12000 x 12000 pixels, expected 100 million at most"),
        (npy(np.zeros((4, 191))), "float64 of shape (4, 191), expected features (regions, 192)"),
    ):
        status, _, content = get(photos, "/search", "POST", body)
        assert status == 400
        assert content["error"].startswith(f"the file: {error}")
