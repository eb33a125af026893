"""Qdrant beside changes of an index: those that fail, and readers that opened it before."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from helpers_search import hard, part

from itmatch.nn import HardAligningSimilarity, MeanPooling
from itmatch.search import Index
from itmatch.search.qdrant.engine import _is_max_sim

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")


def fail(*_):
    raise OSError("disk full")


def failed(change, monkeypatch):
    """A change whose last step fails."""
    with monkeypatch.context() as patch:
        patch.setattr("itmatch.search.store.writing.Commit.done", fail)
        with pytest.raises(OSError, match="disk full"):
            change()


def stored(index, side="images"):
    """The numbers of all points of a side."""
    return index.engine._points.numbers(index.engine._kept[side].name, 0)


def test_a_commit_that_fails_changes_no_answer(tmp_path, split, engine, monkeypatch):
    index = Index.build(hard(), part(split, 0, 6), tmp_path / "index", engine=engine())
    queries = split.captions[:20]
    exact = index.search(queries, top=4, candidates="all").ids
    before = index.search(queries, top=4, candidates=5).ids
    for change in (lambda one: one.add(part(split, 6, 30)), lambda one: one.delete(one.images.ids[:5])):
        failed(partial(change, index), monkeypatch)
        index = Index.open(tmp_path / "index", engine=engine())
        assert index.search(queries, top=4, candidates=5).ids == before
        assert index.search(queries, top=4, candidates=6).ids == exact
        assert all(len(ids) == 5 for ids in index.search(queries, top=5, candidates=5).ids)
        assert index.recall(queries, top=5, candidates=6) == 1
    index.add(part(split, 6, 8))  # these get numbers of those that failed
    assert stored(index) == index.images.serials.tolist() == list(range(8))
    assert stored(index, "captions") == index.captions.serials.tolist()
    exact = index.search(split.captions, top=3, candidates="all")
    assert index.search(split.captions, top=3, candidates=8).ids == exact.ids
    assert index.recall(split.captions, top=3, candidates=7) > 0.99


@pytest.mark.parametrize("change", ["delete", "compact"])
def test_what_a_failed_commit_left_goes_with_the_next_change(tmp_path, split, engine, monkeypatch, change):
    monkeypatch.setattr("itmatch.search.qdrant.edge.LISTED", 3)
    monkeypatch.setattr("itmatch.search.qdrant.server.LISTED", 3)
    index = Index.build(hard(), part(split, 0, 6), tmp_path / "index", engine=engine())
    failed(lambda: index.add(part(split, 6, 30)), monkeypatch)
    assert stored(index) == list(range(30))
    index.delete(index.images.ids[5:]) if change == "delete" else index.compact()
    assert stored(index) == list(range(6))  # a row that is deleted goes later
    index.compact()
    assert stored(index) == index.images.serials.tolist()


def test_a_failed_commit_after_rows_were_deleted(tmp_path, split, engine, monkeypatch):
    index = Index.build(hard(), part(split, 0, 6), tmp_path / "index", engine=engine())
    index.delete(index.images.ids[:2])
    failed(index.compact, monkeypatch)  # they have left Qdrant, though the index says that they are there
    again = Index.open(tmp_path / "index", engine=engine())
    assert len(again.search("a dog", top=5, candidates=4).ids[0]) == 4
    again.compact()
    assert stored(again) == again.images.serials.tolist() == [2, 3, 4, 5]


def test_a_failed_commit_that_made_a_collection(tmp_path, split, engine, monkeypatch):
    alone = part(split, 0, 6)
    gallery = type(split)(alone.features, [], np.zeros(0, np.int64), image_ids=alone.image_ids, lengths=alone.lengths)
    index = Index.build(hard(), gallery, tmp_path / "index", engine=engine())
    failed(lambda: index.add(part(split, 6, 10)), monkeypatch)
    again = Index.open(tmp_path / "index", engine=engine())
    again.add(part(split, 6, 8))
    assert stored(again, "captions") == again.captions.serials.tolist()
    assert len(stored(again, "captions")) == 10


def test_a_reader_from_before_a_change_finds_its_own_rows(tmp_path, split, engine):
    index = Index.build(hard(), part(split, 0, 6), tmp_path / "index", engine=engine())
    before = index.search(split.captions, top=5, candidates=5)
    reader = copy.copy(index)
    reader.engine = copy.copy(index.engine)
    index.add(part(split, 6, 30))
    now = reader.search(split.captions, top=5, candidates=5)
    assert now.ids == before.ids
    assert now.exact == before.exact
    assert all(len(ids) == 5 for ids in now.ids)


def test_a_bound_holds_where_deleted_rows_were_expected_and_did_not_come(tmp_path, split, engine):
    index = Index.build(hard(), split, tmp_path / "index", engine=engine())
    queries = index.captions.fragments(slice(0, 20))[:].to(dtype=torch.float32)
    index.delete(index.images.ids[:8])
    proposal = index.engine.propose("images", queries, 5)
    every = index.search(queries, top=100, candidates="all", kind="images")
    for row, own in enumerate(proposal.serials):
        others = ~np.isin(index.images.serials[every.rows[row].numpy()], own)
        assert float(every.scores[row][torch.from_numpy(others)].max()) <= float(proposal.bounds[row])


def test_rows_that_qdrant_has_lost_are_no_proof(tmp_path, split, engine):
    index = Index.build(hard(), part(split, 0, 6), tmp_path / "index", engine=engine())
    index.engine._points.remove(index.engine._kept["images"].name, [2])
    assert index.search("a dog", top=3, candidates=6).exact == [False]


def test_a_similarity_of_ones_own_is_not_taken_for_max_sim(tmp_path, split, engine):
    class Own(HardAligningSimilarity):
        def align_queries(self, image, text, query):
            return -super().align_queries(image, text, query)

    class OwnMean(MeanPooling):
        pass

    model = hard()
    for similarity in (Own("words", MeanPooling()), HardAligningSimilarity("words", OwnMean())):
        assert not _is_max_sim(similarity, "images")
    assert _is_max_sim(model.similarity, "images")
    index = Index.build(model, part(split, 0, 10), tmp_path / "index", engine=engine())
    index.engine._similarity = Own("words", MeanPooling())
    queries = index.captions.fragments([0])[:].to(dtype=torch.float32)
    assert index.engine.propose("images", queries, 4).bounds is None
