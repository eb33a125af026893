"""Qdrant as a first stage: in this process for real, and the interface of a server by the client's memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers_search import hard, part, system

from itmatch.search import Index, Qdrant
from itmatch.search.opening import engine_at, outer_place

pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
client = pytest.importorskip("qdrant_client", reason="needs qdrant-client")
pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")


@pytest.mark.parametrize(("side", "query"), [("images", "words"), ("captions", "regions")])
def test_max_sim_is_hard_alignment_with_a_mean(tmp_path, split, engine, side, query):
    index = Index.build(hard(query), split, tmp_path / "index", engine=engine())
    other = index.captions if side == "images" else index.images
    queries = other.fragments(slice(0, 10))[:].to(dtype=torch.float32)
    exact = index.search(queries, top=1000, candidates="all", kind=side)
    vectors = [queries.features[row][queries.mask[row]].numpy() for row in range(10)]
    found = index.engine._points.nearest(index.engine._kept[side].name, vectors, 1000)
    serials = getattr(index, side).serials
    for row, (numbers, scores) in enumerate(found):
        assert sorted(numbers) == serials.tolist()
        ours = dict(zip(serials[exact.rows[row].numpy()].tolist(), exact.scores[row].tolist(), strict=True))
        theirs = torch.tensor(scores) / len(vectors[row])
        torch.testing.assert_close(theirs, torch.tensor([ours[n] for n in numbers]), rtol=0, atol=1e-5)


def test_what_qdrant_proposes_is_proved_to_be_exact(tmp_path, split, engine):
    index = Index.build(hard(), split, tmp_path / "index", engine=engine())
    found = index.search(split.captions, top=3, candidates=12)
    exact = index.search(split.captions, top=3, candidates="all")
    torch.testing.assert_close(found.scores, exact.scores)
    assert sum(found.exact) > 100  # of 150; the others have a score within the rounding
    sure = [row for row, known in enumerate(found.exact) if known]
    assert all(found.ids[row] == exact.ids[row] for row in sure)
    queries = index.captions.fragments(slice(0, 20))[:].to(dtype=torch.float32)
    proposal = index.engine.propose("images", queries, 5)
    every = index.search(queries, top=100, candidates="all", kind="images")
    for row, own in enumerate(proposal.serials):
        others = ~np.isin(index.images.serials[every.rows[row].numpy()], own)
        assert len(own) == 5
        assert float(every.scores[row][torch.from_numpy(others)].max()) <= float(proposal.bounds[row])


@pytest.mark.parametrize("name", ["chan", "scan i2t", "sgr", "hire", "resg", "vse_infty"])
def test_the_model_scores_what_qdrant_proposes(name, tmp_path, split, engine):
    index = Index.build(system(name), split, tmp_path / "index", engine=engine())
    hits = index.search(split.captions[:5], top=3, candidates=30)
    exact = index.search(split.captions[:5], top=3, candidates="all")
    assert hits.ids == exact.ids
    torch.testing.assert_close(hits.scores, exact.scores)
    few = index.engine.propose("images", index.captions.fragments([0, 7])[:].to(dtype=torch.float32), 4)
    assert [len(own) for own in few.serials] == [4, 4]
    assert few.bounds is None
    images = index.images.fragments(slice(0, 2))[:].to(dtype=torch.float32)
    assert index.search(images, top=3, candidates=150, kind="captions").rows.shape == (2, 3)


def test_vectors_of_models_that_compare_one_a_side(tmp_path, split, engine):
    index = Index.build(system("vse_infty"), split, tmp_path / "index", engine=engine())
    assert index.recall(split.captions, top=3, candidates=3) == 1


@pytest.mark.parametrize("graph", [0, 8])
def test_int8(tmp_path, split, engine, graph, monkeypatch):
    monkeypatch.setattr("itmatch.search.qdrant.edge._INDEXED", 1)
    index = Index.build(hard(), split, tmp_path / "index", engine=engine(int8=True, graph=graph))
    if index.engine.path:
        assert list((tmp_path / "edge").rglob("quantized.data"))
    assert index.recall(split.captions[:40], top=3, candidates=10) > 0.9
    assert index.engine.propose("images", index.captions.fragments([0])[:].to(dtype=torch.float32), 4).bounds is None


def test_it_follows_what_is_added_deleted_and_compacted(tmp_path, split, engine):
    index = Index.build(hard(), part(split, 0, 10), tmp_path / "index", engine=engine())
    index.add(part(split, 10, 30))
    gone = [index.images.ids[3], index.images.ids[20]]
    index.delete(gone)
    assert index.recall(split.captions, top=5, candidates=28) == 1
    again = Index.open(tmp_path / "index", engine=engine())
    for opened in (again, index):
        assert len(opened.search(split.captions[:3], top=40, candidates=28).ids[0]) == 28
        proposal = opened.engine.propose("images", opened.captions.fragments([0])[:].to(dtype=torch.float32), 6)
        assert set(proposal.serials[0]) <= set(opened.images.serials)
        assert len(proposal.serials[0]) == 6
        opened.engine.close()
    again.compact()
    kept = again.engine._kept["images"]
    assert np.array_equal(kept.held, again.images.serials)
    assert again.engine._points.found(kept.name)[0] == 28
    assert again.search(split.captions, top=3, candidates=28).ids == again.search(split.captions, top=3).ids


def test_an_index_that_is_built_anew(tmp_path, split, engine):
    old = Index.build(hard(), part(split, 0, 10), tmp_path / "index", engine=engine())
    name = old.engine._kept["images"].name
    new = Index.build(hard(), part(split, 10, 20), tmp_path / "index", engine=engine(), overwrite=True)
    assert new.engine._kept["images"].name != name
    assert new.search("a dog", top=2, candidates=5).ids[0][0] in new.images.ids
    new.engine.drop()
    with pytest.raises(ValueError, match="was it removed, or is"):
        Index.open(tmp_path / "index", engine=engine())


def test_a_build_that_fails_leaves_no_collection(tmp_path, split, engine, monkeypatch):
    own = engine()
    points = own._points
    monkeypatch.setattr(points, "finish", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=own)
    if own.url:
        assert own.client.get_collections().collections == []
    else:
        assert list((tmp_path / "edge").iterdir()) == []


def test_an_index_without_rows(tmp_path, split, engine):
    index = Index.build(hard(), part(split, 0, 1), tmp_path / "index", engine=engine())
    index.delete(index.images.ids)
    assert index.search("a dog", candidates=5).ids == [[]]
    index.compact()
    index.add(part(split, 0, 2))
    assert len(index.search("a dog", candidates=5).ids[0]) == 2


def test_an_index_does_not_choose_where_data_go(tmp_path, split, engine):
    Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=engine())
    with pytest.raises(ValueError, match=r"Qdrant reaches out of the index; give Index\.open the engine"):
        Index.open(tmp_path / "index")


def test_an_index_is_searched_without_its_engine(tmp_path, split, engine):
    index = Index.build(hard(), split, tmp_path / "index", engine=engine())
    again = Index.open(tmp_path / "index", exact=True)
    assert again.engine is None
    assert again.search(split.captions, top=3).ids == index.search(split.captions, top=3).ids
    for change in (lambda: again.delete(index.images.ids[:1]), again.compact):  # which would leave Qdrant behind
        with pytest.raises(ValueError, match="opened without its first stage, so it is read and not changed"):
            change()
    index.delete(index.images.ids[:1])
    assert again.refresh()
    assert len(again.images) == len(split.image_ids) - 1
    with pytest.raises(ValueError, match=r"exact=True, and engine=.*give one of them"):
        Index.open(tmp_path / "index", exact=True, engine=engine())


def test_a_user_says_where_qdrant_is(tmp_path, split):
    Qdrant(path=tmp_path / "edge")
    built = Index.build(hard(), split, tmp_path / "index", engine=Qdrant(path=tmp_path / "edge", oversampling=3.0))
    built.engine.close()
    (tmp_path / "edge").rename(tmp_path / "moved")
    assert outer_place(tmp_path / "index") == str(tmp_path / "edge")
    found = engine_at(tmp_path / "index", str(tmp_path / "moved"))
    assert (found.path, found.url, found.oversampling) == (str(tmp_path / "moved"), None, 3.0)
    index = Index.open(tmp_path / "index", engine=found)
    assert index.recall(split.captions[:10], top=3, candidates=10) == 1
    index.engine.close()
    server = engine_at(tmp_path / "index", "http://localhost:6333")
    assert (server.path, server.url) == (None, "http://localhost:6333")
    with pytest.raises(ValueError, match="holds a password"):
        engine_at(tmp_path / "index", "http://me:secret@localhost:6333")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder, expected that of Qdrant"):
        engine_at(tmp_path / "index", "nowhere")
    Index.build(hard(), part(split, 0, 4), tmp_path / "plain")
    assert outer_place(tmp_path / "plain") is None
    with pytest.raises(ValueError, match=r"plain.*: was not built with Qdrant"):
        engine_at(tmp_path / "plain", str(tmp_path / "moved"))


@pytest.mark.parametrize(
    ("side", "value", "message"),
    [
        ("images", {"name": "../../etc-0123456789ab-images", "size": 16}, "images: name '../../etc"),
        ("images", {"name": "x-0123456789ab-captions", "size": 16}, "expected that of a collection of images"),
        ("captions", 3, "captions: name None"),
        ("captions", {"name": "x-0123456789ab-captions", "size": -1}, "size -1, expected a whole number"),
        ("images", {"name": "x-0123456789ab-images", "size": 16}, "x-0123456789ab-images"),
    ],
)
def test_what_an_index_says_of_qdrant_is_checked(tmp_path, split, engine, side, value, message):
    Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=engine())
    path = next((tmp_path / "index").glob("engine-*/qdrant.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {side: value}))
    with pytest.raises(ValueError, match=message):
        Index.open(tmp_path / "index", engine=engine())


def test_points_that_are_gone_and_vectors_of_another_size(tmp_path, split, engine):
    index = Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=engine())
    kept = index.engine._kept["images"]
    index.engine._points.remove(kept.name, [1])
    with pytest.raises(ValueError, match="has 3 points, expected 4; build the index again"):
        Index.open(tmp_path / "index", engine=engine())
    engine()._points.drop(kept.name)
    engine()._points.create(kept.name, 8)
    with pytest.raises(ValueError, match="has vectors of size 8, expected 16"):
        Index.open(tmp_path / "index", engine=engine())


def test_queries_that_are_none(tmp_path, split, engine):
    index = Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=engine())
    queries = index.captions.fragments([0])[:].to(dtype=torch.float32)
    queries.features[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="query 0: a NaN or an infinity"):
        index.search(queries, candidates=2, kind="images")


OPENING = """
import sys
from itmatch.search import Index, Qdrant
for turn in range(2):
    try:
        Index.open(sys.argv[1], engine=Qdrant(path=sys.argv[2]))
        print("opened", flush=True)
    except Exception as error:
        print(" ".join(str(error).split()), flush=True)
        sys.stdin.readline()
"""


def test_one_process_has_the_folder_open(tmp_path, split):
    index = Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=Qdrant(path=tmp_path / "edge"))
    command = [sys.executable, "-c", OPENING, str(tmp_path / "index"), str(tmp_path / "edge")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert "has it open; one may at a time" in other.stdout.readline()
        index.engine.close()
        assert other.communicate("again\n", timeout=60)[0] == "opened\n"
    assert len(index.search("a dog", top=2, candidates=3).ids[0]) == 2  # it opens it again


def test_a_folder_that_is_no_collection(tmp_path, split):
    index = Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=Qdrant(path=tmp_path / "edge"))
    name = index.engine._kept["images"].name
    index.engine.drop()
    (tmp_path / "edge" / name).mkdir()
    with pytest.raises(ValueError, match="no collection of Qdrant, or a damaged one"):
        Index.open(tmp_path / "index", engine=Qdrant(path=tmp_path / "edge"))


def test_no_server(tmp_path, split):
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9: no answer of a Qdrant server \(.*refused"):
        Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=Qdrant(url="http://127.0.0.1:9"))
    assert not list((tmp_path / "index").glob("index.json"))


def test_a_collection_of_others(tmp_path, split):
    engine = Qdrant(url="http://somewhere:6333")
    engine.client = client.QdrantClient(":memory:")
    Index.build(hard(), part(split, 0, 4), tmp_path / "index", engine=engine)
    name = engine._kept["images"].name
    engine._points.drop(name)
    plain = client.models.VectorParams(size=16, distance=client.models.Distance.DOT)
    engine.client.create_collection(name, vectors_config=plain)
    with pytest.raises(ValueError, match="was not made by itmatch: it has no multivectors"):
        Index.open(tmp_path / "index", engine=engine)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give path=, a folder"),
        ({"path": "a", "url": "http://b"}, "give path=, a folder"),
        ({"url": "localhost:6333"}, "expected http://HOST:PORT"),
        ({"url": "http://me:secret@host"}, "holds a password or settings.*QDRANT_API_KEY"),
        ({"path": "a", "name": "../x"}, "expected letters, digits"),
        ({"path": "a", "graph": -1}, "graph: -1"),
        ({"path": "a", "oversampling": 0}, "oversampling"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=message) as told:
        Qdrant(**settings)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("module", "settings"), [("qdrant_edge", {"path": "a"}), ("qdrant_client", {"url": "http://b"})]
)
def test_what_is_not_installed_is_named(module, settings, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "itmatch\[qdrant\]"'):
        _ = Qdrant(**settings)._points
