"""What an index is searched with, and why its answers were found: systems with and without alignments and relations."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from itmatch import models
from itmatch.data import ImageTextSplit, RelationScenes, WordTokenizer
from itmatch.pages import explain, explain_relations
from itmatch.pages.queries import GivenImage, StoredImage, TextQuery, effects_stored
from itmatch.pages.results import results_page
from itmatch.search import Index

SCENES = RelationScenes(num_test=6, text_graphs=True)
SYSTEMS = [models.vse_pp_gru, models.scan_gru, models.chan_gru, models.cmsei_gru, models.hire_gru, models.resg_gru]


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda system: system.__name__)
def index(request, tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", *SCENES.words()])
    model = request.param(tokenizer.vocabulary, region_dim=64, embed_dim=16, word_dim=8)
    model.tokenizer = tokenizer
    return Index.build(model, SCENES.split("test"), tmp_path_factory.mktemp("index") / "index")


def test_an_image_of_the_index_is_explained_as_the_image_itself(index):
    split, text = SCENES.split("test"), "a red dog left of a blue cat"
    query = TextQuery(index, text)
    hits = query.search(2)
    for row, score in zip(hits.rows[0].tolist(), hits.scores[0].tolist(), strict=True):
        found, expected = query.explain(row), explain(index.model, split.image(row), text, names=split.names)
        assert found.words == expected.words
        assert found.regions == expected.regions
        assert (found.alignment is None) == (expected.alignment is None)
        if expected.alignment is not None:
            np.testing.assert_allclose(found.alignment, expected.alignment, atol=5e-3)  # the index has float16
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        assert [(one.subject, one.object) for one in found.relations] == [
            (one.subject, one.object) for one in expected.relations
        ]
        assert found.score == pytest.approx(score, abs=1e-4)
        assert found.picture == split.picture(row)


def test_images_find_captions(index, tmp_path):
    stored = StoredImage(index, 3)
    hits = stored.search(2)
    assert hits.kind == "captions"
    near = {"rel": 1e-2, "abs": 1e-2}  # what is stored has float16
    assert stored.explain(int(hits.rows[0, 0])).score == pytest.approx(float(hits.scores[0, 0]), **near)
    np.save(tmp_path / "regions.npy", np.random.default_rng(0).standard_normal((5, 64)))
    if getattr(index.model.image_encoder, "relations", None):
        with pytest.raises(ValueError, match="no boxes"):  # which these systems need
            GivenImage.read(index, tmp_path / "regions.npy")
        return
    given = GivenImage.read(index, tmp_path / "regions.npy")
    hits = given.search(2)
    found = given.explain(int(hits.rows[0, 1]))
    assert (len(found.regions), found.text) == (5, hits[0][1].text)
    assert found.score == pytest.approx(float(hits.scores[0, 1]), **near)


@pytest.mark.parametrize("index", [models.vse_pp_gru], indirect=True)
def test_a_photo_that_is_gone_since_the_index_was_built_is_told_of_in_its_place(index, tmp_path):
    features = np.random.default_rng(0).standard_normal((1, 3, 64)).astype(np.float32)
    split = ImageTextSplit(features, ["a dog"], np.array([0]), pictures=[str(tmp_path / "gone.png")])
    query = TextQuery(Index.build(index.model, split, tmp_path / "index"), "a dog")
    assert "No picture: " in results_page("a dog", query, query.search(1))
    assert query.explain(0).picture == str(tmp_path / "gone.png")


def test_answers_as_a_page(index):
    query = TextQuery(index, "a <red> dog")
    page = results_page("a <red> dog", query, query.search(3))
    assert page.count('class="itm-explain"') == 3
    assert "3 images, best first" in page
    assert "<red>" not in page
    assert "Not known to the model" not in page


@pytest.mark.parametrize("index", [models.vse_pp_gru], indirect=True)
def test_unknown_words_stand_on_the_page_and_are_not_told_twice(index):
    query = TextQuery(index, "<b>zorgon</b>")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = query.search(1)
    assert hits.unknown == [["b", "zorgon", "/b"]]
    assert "Not known to the model: b, zorgon, /b<" in results_page("zorgon", query, hits)
    escaped = results_page("zorgon", query, replace(hits, unknown=[["<b>"]]))
    assert "Not known to the model: &lt;b&gt;<" in escaped


@pytest.mark.parametrize("index", SYSTEMS[3:], indirect=True)
def test_relations_of_an_image_of_the_index_add_what_those_of_the_image_itself_do(index, tmp_path):
    model, split, text = index.model, SCENES.split("test"), "a red dog left of a blue cat"
    with torch.no_grad():
        for parameter in model.parameters():  # what starts at 0 would hide the relations
            parameter.add_(0.1 * torch.randn_like(parameter))
    kept = Index.build(model, split, tmp_path / "index", keep_regions=True)
    for row in (0, 5):
        found, expected = (
            effects_stored(kept, row, text),
            explain_relations(model, split.image(row), text, names=split.names),
        )
        near = {"abs": 5e-3}  # the index has float16
        assert (found.score, found.without_any) == pytest.approx((expected.score, expected.without_any), **near)
        assert found.regions == expected.regions
        by_name = {(one.subject, one.name, one.object): effect for one, effect in expected.effects}
        assert {(one.subject, one.name, one.object): effect for one, effect in found.effects} == pytest.approx(
            by_name, **near
        )
        assert abs(found.effects[0][1]) > 1e-4


def test_what_cannot_be_told_of_relations_is_said_in_one_line(index):
    reads = bool(getattr(index.model.image_encoder, "relations", None))
    expected = "does not keep what the model read of the images, .* --keep_regions$" if reads else "reads no relations"
    with pytest.raises(ValueError, match=expected):
        effects_stored(index, 0, "a dog")


@pytest.mark.parametrize("index", [models.cmsei_gru], indirect=True)
def test_an_image_without_relations_or_with_very_many(index, tmp_path):
    boxes = np.tile(np.float32([0.1, 0.1, 0.5, 0.5]), (2, 3, 1))
    relations = np.full((2, 2001, 3), -1)
    relations[1] = (0, 1, 2)
    features = np.ones((2, 3, 64), np.float32)
    split = ImageTextSplit(features, ["a dog"], np.array([0]), boxes=boxes, relations=relations)
    kept = Index.build(index.model, split, tmp_path / "index", keep_regions=True)
    for row, told in ((0, "this image has no relations"), (1, "this image has 2001 relations, expected 2000 at most")):
        with pytest.raises(ValueError, match=f"^{told}$"):
            effects_stored(kept, row, "a dog")
