"""What each relation adds to a score, as the search page answers it."""

import json
import os

import numpy as np
import pytest
from helpers_server import get, relation_index, scene_index, serving

from itmatch.data import Names
from itmatch.pages.queries import effects_stored
from itmatch.search import Index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return relation_index(tmp_path_factory.mktemp("relations"))


@pytest.fixture(scope="module")
def server(index):
    with serving(index) as server:
        yield server


def test_relations_are_told_of_an_image_and_a_text(server, index):
    status, _, content = get(server, "/relations?q=a+red++dog&image=2")
    found = effects_stored(index, 2, "a red dog")
    assert status == 200
    assert (content["score"], content["without_any"]) == (found.score, found.without_any)
    assert content["effects"] == [{"relation": found.called(one), "adds": effect} for one, effect in found.effects]
    assert content["html"] == found.fragment()
    assert len(content["effects"]) > 1
    assert get(server, "/about")[2]["reads_relations"] is True


def test_what_cannot_be_told_is_refused_in_one_line(server, tmp_path):
    for target, status, error in (
        ("/relations?q=a", 400, "no image, expected q and image"),
        ("/relations?q=&image=1", 400, "q: nothing to look for"),
        ("/relations?q=a&image=6", 404, "no image 6 among the 6 of the index"),
        ("/relations?q=a&image=1&top=3", 400, "no 'top' here, expected q and image"),
    ):
        found, _, content = get(server, target)
        assert (found, content["error"]) == (status, error)
    with serving(relation_index(tmp_path / "lean", keep_regions=False)) as lean:
        found, _, content = get(lean, "/relations?q=a+dog&image=1")
        assert found == 400
        assert content["error"].endswith("build it with itmatch index --keep_regions")
    with serving(scene_index(tmp_path / "chan")) as plain:
        assert get(plain, "/about")[2]["reads_relations"] is False
        found, _, content = get(plain, "/relations?q=a+dog&image=1")
        assert (found, content["error"][:45]) == (400, "this model reads no relations of an image: it")


def test_hostile_names_stay_text(tmp_path):
    hostile = "<img src=x onerror='alert(1)'>"
    index = relation_index(tmp_path, names=Names([hostile] * 50, [hostile] * 50))
    with serving(index) as server:
        html = get(server, "/relations?q=a+dog&image=1")[2]["html"]
    assert "<img" not in html
    assert "&lt;img src=x" in html


def changed(index, column, change):
    """The index with another array in a column of its images, as a stranger may have written it."""
    manifest = json.loads((index.path / "index.json").read_text())
    shard = manifest["images"][0]
    file = index.path / shard["folder"] / f"{column}.npy"
    array = change(np.load(file))
    np.save(file, array)
    shard["bytes"][file.name] = os.stat(file).st_size
    (index.path / "index.json").write_text(json.dumps(manifest))
    return Index.open(index.path)


def with_value(value):
    def change(array):
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("regions", with_value(np.nan)),
        ("regions", with_value(np.inf)),
        ("regions", lambda array: np.tile(array, (1, 2))),
        ("relations", with_value(99)),
        ("relations", with_value(-1)),
        ("relation_scores", with_value(np.nan)),
        ("relation_scores", with_value(2)),
        ("boxes", with_value(np.nan)),
    ],
)
def test_files_of_strangers_are_refused_in_one_line(tmp_path, column, change):
    index = changed(relation_index(tmp_path, num_test=2), column, change)
    with serving(index) as server:
        status, _, content = get(server, "/relations?q=a+dog&image=0")
    assert status == 400
    assert "\n" not in content["error"]
    assert len(content["error"]) < 300
