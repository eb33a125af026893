"""Two stages: what they propose, what a bound proves, what is kept of it on disk."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers_search import SCENES, part, system

from itmatch.batch import Fragments
from itmatch.data import ImageTextSplit
from itmatch.nn import HardAligningSimilarity, LogSumExpPooling, MaxPooling, MeanPooling, SoftmaxPooling
from itmatch.search import Axes, Index
from itmatch.search.axes import _axes, _Coded
from itmatch.search.engines import Proposal


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


def build(tmp_path, split, model=None, **settings):
    engine = Axes(**{"axes": 6, "sample": 500} | settings)
    return Index.build(model or system(), split, tmp_path / "index", engine=engine)


def test_axes_are_those_that_queries_see():
    torch.manual_seed(0)
    stored = torch.randn(500, 6) * torch.tensor([1.0, 1.0, 3.0, 1.0, 1.0, 1.0])
    asking = torch.randn(400, 6) * torch.tensor([9.0, 5.0, 0.1, 0.1, 0.1, 0.1])
    stored -= stored.mean(0)
    inward, outward = _axes(stored, asking, 2)
    places = (stored @ inward).round()
    assert 126 < float(places.abs().max()) < 128
    lost = stored - places @ outward.T
    assert float(lost[:, :2].abs().max()) < 0.2
    assert float((asking @ lost.T).square().mean()) < 0.05 * float((asking @ stored.T).square().mean())
    inward, outward = _axes(stored, torch.eye(6), 1)
    assert float(outward[2].abs() / outward.norm()) > 0.99  # unweighted, the longest axis


def test_two_stages_find_the_best_and_their_scores(tmp_path, split):
    index = build(tmp_path, split)
    texts = split.captions[:40]
    exact = index.search(texts, top=5, candidates="all")
    assert exact.exact == [True] * 40
    found = index.search(texts, top=5, candidates=30)
    assert found.ids == exact.ids
    torch.testing.assert_close(found.scores, exact.scores)
    few = index.search(texts, top=5, candidates=8)
    share = float((exact.rows[:, :, None] == few.rows[:, None]).any(2).double().mean())
    assert share == index.recall(texts, top=5, candidates=8)
    assert 0.4 < share <= 1  # of 30 images, 5 / 30 by chance alone
    assert index.recall(texts, top=5, candidates=30) == 1
    images = index.images.fragments()[:].to(dtype=torch.float32)
    assert index.recall(images, top=10, candidates=60, kind="captions") > 0.5
    assert index.recall([], top=5) == 1


def test_more_candidates_find_no_less(tmp_path, split):
    index = build(tmp_path, split, axes=3)
    shares = [index.recall(split.captions, top=5, candidates=count) for count in (5, 10, 20, 30)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("query", ["words", "regions", "both"])
@pytest.mark.parametrize(
    "pooling",
    [MeanPooling(), MaxPooling(), LogSumExpPooling(0.2), LogSumExpPooling(0.2, scaled=False), SoftmaxPooling(0.2)],
)
@pytest.mark.parametrize("side", ["images", "captions"])
def test_no_row_that_is_left_out_scores_more_than_the_bound(tmp_path, split, query, pooling, side):
    model = system()
    model.similarity = HardAligningSimilarity(query, pooling)
    index = build(tmp_path, part(split, 0, 10), model, axes=5)
    queries = (index.captions if side == "images" else index.images).fragments(slice(0, 6))[:].to(dtype=torch.float32)
    proposal = index.engine.propose(side, queries, 4)
    if isinstance(pooling, SoftmaxPooling):
        assert proposal.bounds is None
        return
    every = index.search(queries, top=100, candidates="all", kind=side)
    serials = getattr(index, side).serials
    for row, own in enumerate(proposal.serials):
        assert len(own) == 4
        others = ~np.isin(serials[every.rows[row].numpy()], own)
        assert float(every.scores[row][torch.from_numpy(others)].max()) <= float(proposal.bounds[row])


def test_what_is_said_to_be_exact_is(tmp_path, split):
    index = build(tmp_path, split, axes=16)  # as many as fragments have numbers
    found = index.search(split.captions, top=2, candidates=12)
    exact = index.search(split.captions, top=2, candidates="all")
    sure = [row for row, known in enumerate(found.exact) if known]
    assert len(sure) > 100
    assert all(torch.equal(found.rows[row], exact.rows[row]) for row in sure)
    assert index.search(split.captions[:2], top=2, candidates=1000).exact == [True, True]


@pytest.mark.parametrize("name", ["scan i2t", "sgr", "hire", "resg", "vse_infty"])
def test_other_similarities_are_searched_too(name, tmp_path, split):
    index = build(tmp_path, split, system(name))
    hits = index.search(split.captions[:5], top=3, candidates=30)
    assert hits.ids == index.search(split.captions[:5], top=3).ids
    assert index.search(split.captions[:5], top=3, candidates=5).rows.shape == (5, 3)


def test_it_follows_what_is_added_and_deleted(tmp_path, split):
    model = system()
    index = build(tmp_path, part(split, 0, 20), model)
    inward = index.engine._sides["images"].inward
    index.add(part(split, 20, 30))
    index.delete([index.images.ids[3], index.images.ids[20]])
    index.compact()
    again = Index.open(tmp_path / "index")
    assert isinstance(again.engine, Axes)
    assert again.engine.spec == index.engine.spec
    assert torch.equal(again.engine._sides["images"].inward, inward)
    for opened in (index, again):
        coded = opened.engine._sides["images"]
        assert np.array_equal(coded.serials, opened.images.serials)
        fragments = opened.images.fragments()
        places = ((fragments.values.float() - coded.mean) @ inward).round().clamp(-127, 127)
        assert (torch.from_numpy(coded.codes) - places).abs().max() <= 1
        assert np.array_equal(np.diff(coded.offsets), fragments.lengths.numpy())
        assert opened.recall(split.captions, top=5, candidates=28) == 1
    with pytest.raises(ValueError, match="no first stage; build it with engine"):
        Index.build(model, part(split, 0, 4), tmp_path / "plain").search("a dog", candidates=3)


def test_axes_are_found_anew_when_a_side_has_doubled(tmp_path, split):
    images = part(split, 0, 10)
    images = ImageTextSplit(
        images.features, [], np.zeros(0, np.int64), image_ids=images.image_ids, lengths=images.lengths
    )
    index = build(tmp_path, images)
    assert index.engine._sides["images"].seen.tolist() == [10, 0]
    index.add(part(split, 10, 15))  # the first captions
    first = index.engine._sides["images"]
    assert first.seen.tolist() == [15, 25]
    index.add(part(split, 15, 16))
    assert torch.equal(index.engine._sides["images"].inward, first.inward)
    index.add(part(split, 16, 30))
    assert index.engine._sides["images"].seen.tolist() == [30, 100]
    assert np.array_equal(index.engine._sides["images"].serials, index.images.serials)


def test_two_stages_are_the_default_where_they_pay(tmp_path, split, monkeypatch):
    index = build(tmp_path, split)
    asked = []
    propose = index.engine.propose
    monkeypatch.setattr(index.engine, "propose", lambda *given: asked.append(given[2]) or propose(*given))
    index.search("a dog")
    assert asked == []
    monkeypatch.setattr("itmatch.search.answers.PAYS", 10)
    assert index.search("a dog").exact == [True]  # more candidates than rows
    assert index.search("a dog", top=200).rows.shape == (1, 30)
    assert asked == [1000, 2000]
    index.search("a dog", candidates=0)
    assert len(asked) == 2


def test_vectors_are_scored_all(tmp_path, split, monkeypatch):
    monkeypatch.setattr("itmatch.search.answers.PAYS", 10)
    index = build(tmp_path, split, system("vse_pp"))
    monkeypatch.setattr(index.engine, "propose", None)
    assert index.search("a dog").exact == [True]


def test_settings():
    with pytest.raises(ValueError, match="axes: 0"):
        Axes(0)
    with pytest.raises(ValueError, match="sample: 0"):
        Axes(sample=0)


def test_one_image(tmp_path, split):
    index = build(tmp_path, part(split, 0, 1))
    assert index.search("a dog", candidates=5).ids == [[split.image_ids[0]]]
    index.delete([split.image_ids[0]])
    assert index.search("a dog", candidates=5).ids == [[]]
    assert index.search("a dog").ids == [[]]
    assert index.search(Fragments(torch.randn(1, 2, 16)), kind="captions").rows.shape == (1, 0)
    index.compact()
    assert len(Index.open(tmp_path / "index").images) == 0
    index.add(part(split, 0, 2))
    assert len(index.search("a dog", candidates=5).ids[0]) == 2


def test_images_without_captions_and_then_some(tmp_path, split):
    alone = part(split, 0, 10)
    alone = ImageTextSplit(alone.features, [], np.zeros(0, np.int64), image_ids=alone.image_ids, lengths=alone.lengths)
    index = build(tmp_path, alone)
    assert index.recall(split.captions[:5], top=3, candidates=10) == 1
    with pytest.raises(ValueError, match="holds no captions"):
        index.search(np.ones((1, 2, 64), np.float32), candidates=5)
    index.add(part(split, 10, 20))
    assert len(index.captions) == 50
    assert index.recall(np.ones((2, 2, 64), np.float32), top=3, candidates=50) == 1


class Steeper(HardAligningSimilarity):
    """Somebody's own similarity: its scores are not those of hard alignment."""


def test_a_bound_is_of_hard_alignment_alone(tmp_path, split):
    model = system()
    model.similarity = Steeper(pooling=MeanPooling())
    index = Index.build(model, split, tmp_path / "index")
    engine = Axes(6)
    engine.write(tmp_path, {"images": index.images, "captions": index.captions}, model.similarity, None)
    engine.open(tmp_path, {"images": index.images, "captions": index.captions}, model.similarity)
    queries = index.captions.fragments(slice(0, 3))[:].to(dtype=torch.float32)
    assert engine.propose("images", queries, 4).bounds is None


def test_codes_of_other_rows_are_refused(tmp_path, split):
    index = build(tmp_path, part(split, 0, 5))
    folder = next((tmp_path / "index").rglob("images-serials.npy")).parent
    serials, offsets, codes, lost = (
        np.load(folder / f"images-{name}.npy") for name in ("serials", "offsets", "codes", "lost")
    )
    np.save(folder / "images-serials.npy", serials[:3])
    np.save(folder / "images-offsets.npy", offsets[:4])
    np.save(folder / "images-codes.npy", codes[: offsets[3]])
    np.save(folder / "images-lost.npy", lost[:3])
    with pytest.raises(ValueError, match="codes of 3 images, not of the 5 there are"):
        Index.open(index.path)


def test_a_few_captions_do_not_weight_the_axes(tmp_path, split):
    index = build(tmp_path, split, axes=4)
    images, captions = index.images, index.captions

    class Few:
        """The first captions of the index."""

        def __init__(self, count):
            self.count, self.embed_dim = count, captions.embed_dim

        def __len__(self):
            return self.count

        def fragments(self, rows):
            return captions.fragments(np.asarray(rows) % self.count)

    weighted, few, none = (
        _Coded.none(images, other, 4, 10_000).inward for other in (captions, Few(2), part_of_nothing(captions))
    )
    assert torch.equal(few, none)
    assert not torch.equal(weighted, none)


def part_of_nothing(captions):
    """A collection without rows."""
    empty = type("Empty", (), {"embed_dim": captions.embed_dim, "__len__": lambda self: 0})
    return empty()


def test_four_queries_are_scored_together(tmp_path, split, monkeypatch):
    monkeypatch.setattr("itmatch.search.answers.PAYS", 10)
    monkeypatch.setattr("itmatch.search.answers.CANDIDATES", 6)
    index = build(tmp_path, split)
    asked = []
    propose = index.engine.propose
    monkeypatch.setattr(index.engine, "propose", lambda *given: asked.append(len(given[1])) or propose(*given))
    index.search(split.captions[:3], top=2)
    assert index.search(split.captions[:4], top=2).exact == [True] * 4
    assert asked == [3]


def test_fewer_answers_than_wanted(tmp_path, split):
    index = build(tmp_path, part(split, 0, 5))
    proposal = index.engine.propose("images", index.captions.fragments(slice(0, 1))[:].to(dtype=torch.float32), 2)
    index.engine.propose = lambda *_: Proposal(proposal.serials, None)  # two of the five that are wanted
    hits = index.search(split.captions[:1], top=5, candidates=5)
    assert len(hits[0]) == len(hits.to_dicts()[0]["hits"]) == 2
    assert hits.rows[0].tolist()[2:] == [-1, -1, -1]
    assert [hit.score for hit in hits[0]] == hits.scores[0, :2].tolist()


@pytest.mark.parametrize("gone", [[3], [0, 5, 9, 29], list(range(0, 30, 2))])
def test_deleted_rows_leave_parts_that_are_not_copied(tmp_path, split, gone, monkeypatch):
    monkeypatch.setattr("itmatch.search.collection._SHORTEST", 2)
    index = Index.build(system(), split, tmp_path / "index")
    index.delete([split.image_ids[row] for row in gone])
    left = [row for row in range(30) if row not in gone]
    whole = index.images.fragments()
    parts = list(index.images.parts())
    assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
    assert torch.equal(torch.cat([part.values for _, part in parts]), whole.values)
    assert parts[-1][0].stop == len(left)
    cuts = sum(b - a != 1 for a, b in pairwise(left))
    assert len(parts) == (cuts + 1 if cuts * 2 <= len(left) else 1)
    hits = index.search(split.captions[:5], top=3)
    expected = index.model.score(whole[:], split.captions[:5]).T.topk(3)
    assert torch.equal(hits.rows, expected.indices)
