"""The search page beside somebody who writes to the index."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers_server import get, scene_index, serving

from itmatch.data import RelationScenes
from itmatch.pages.server.app import SearchApp
from itmatch.pages.server.current import CurrentIndex
from itmatch.search import Axes, Index


@pytest.fixture
def index(tmp_path):
    return scene_index(tmp_path)


def writer(index):
    return Index.open(index.path, model=index.model)


def ids(server, target="/search?q=a+red+dog&top=100"):
    return [hit["id"] for hit in get(server, target)[2]["hits"]]


def test_what_is_added_and_deleted_is_seen(index):
    other, more = writer(index), RelationScenes(num_val=6).split("val")
    with serving(index) as server:
        before = get(server, "/search?q=a+red+dog&top=20")[2]["hits"]
        other.add(more)
        assert get(server, "/about")[2]["images"] == 26
        assert set(more.image_ids) < set(ids(server))
        gone = before[0]
        other.delete([gone["id"]])
        assert gone["id"] not in ids(server)
        assert len(ids(server)) == 25
        status, _, content = get(server, f"/search?image={gone['number']}")
        assert (status, content["error"]) == (404, f"no image {gone['number']} among the 25 of the index")
        assert get(server, gone["picture"])[0] == 404
        kept = before[5]  # a page that was there before asks for what it shows
        explained = get(server, f"/explain?q=a+red+dog&image={kept['number']}")[2]["html"]
        assert f'src="{kept["picture"]}"' in explained
        row = other.images.position(kept["id"])
        assert get(server, kept["picture"])[2] == other.images.pictures[row].encode()
        other.compact()
        assert get(server, kept["picture"])[2] == other.images.pictures[row].encode()
        assert len(ids(server)) == 25
    assert len(index.images) == 20  # what was opened stays as it was


def test_nothing_is_opened_again_where_nothing_was_written(index, monkeypatch):
    with serving(index) as server:
        ids(server)
        monkeypatch.setattr(Index, "refresh", lambda *_: pytest.fail("it was opened again"))
        assert len(ids(server)) == 20


def test_requests_beside_a_writer_are_all_answered(index):
    other, source = writer(index), RelationScenes(num_val=8).split("val")
    done, wrong = threading.Event(), []

    def ask(server):
        while not done.is_set():
            status, _, content = get(server, "/search?q=a+red+dog&top=100")
            hits = content.get("hits", [])
            known = {hit["id"] for hit in hits}
            if status != 200 or len(hits) not in (20, 28) or len(known) != len(hits):
                wrong.append((status, content))
            for hit in hits[::9]:
                for target in (f"/explain?q=a+red+dog&image={hit['number']}", hit["picture"]):
                    status, _, content = get(server, target)
                    if status != 200 and not (status == 404 and "among the 20 of the index" in content["error"]):
                        wrong.append((status, content))

    with serving(index) as server, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, server) for _ in range(4)]
        for _ in range(5):
            other.add(source)
            other.delete(source.image_ids)
            other.compact()
        done.set()
        for one in asking:
            one.result(timeout=60)
        assert wrong == []
        assert set(ids(server)) == set(index.images.ids)


def test_a_first_stage_follows(tmp_path, index, monkeypatch):
    monkeypatch.setattr("itmatch.search.answers.PAYS", 2)
    built = Index.build(index.model, RelationScenes(num_test=20).split("test"), tmp_path / "own", engine=Axes())
    other = writer(built)
    with serving(built) as server:
        assert len(ids(server)) == 20
        other.add(RelationScenes(num_val=6).split("val"))
        assert len(ids(server)) == 26
        assert len(built.search("a red dog", 100).ids[0]) == 20


def test_an_index_that_is_built_anew(index, capfd):
    opened = []

    def again():
        opened.append(Index.open(index.path))
        return opened[-1]

    torch.manual_seed(1)
    model = Index.open(index.path).model
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with serving(app=SearchApp(CurrentIndex(index, again))) as server, serving(index) as without:
        assert len(ids(server)) == 20
        Index.build(model, RelationScenes(num_val=6).split("val"), index.path, overwrite=True)
        assert len(ids(server)) == 6
        assert len(ids(server)) == 6
        assert len(opened) == 1
        for _ in range(3):
            assert len(ids(without)) == 20
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].endswith("open it again; the page goes on with the index as it was")


def test_an_index_that_is_gone_or_damaged(index, capfd):
    with serving(index) as server:
        assert len(ids(server)) == 20
        manifest = (index.path / "index.json").read_text()
        (index.path / "index.json").write_text("{")
        assert len(ids(server)) == len(ids(server)) == 20
        (index.path / "index.json").write_text(manifest)
        assert len(ids(server)) == 20
        shutil.rmtree(index.path)
        assert len(ids(server)) == len(ids(server)) == 20
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 2
    assert "no such folder" in told[1]
