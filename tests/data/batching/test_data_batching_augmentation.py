import pytest
import torch

from itmatch.batch import Captions, Regions, SceneGraph
from itmatch.data import SizeAugmentation, WordTokenizer
from itmatch.data.batching.augmentation import _ordinary
from itmatch.data.batching.padding import graph_of
from itmatch.ops.masking import lengths_to_mask
from itmatch.spec import build


def images(count=1, regions=6):
    """Images whose features, boxes, labels, predicates and scores tell where a region stood."""
    place = torch.arange(regions).float()
    row = torch.arange(count).repeat_interleave(regions**2)
    ends = torch.cartesian_prod(torch.arange(regions), torch.arange(regions)).repeat(count, 1).T
    graph = SceneGraph(ends, row, count, 10 * ends[0] + ends[1], (regions * ends[0] + ends[1]) / regions**2)
    return Regions(
        place[:, None].expand(count, regions, 2).clone(),
        boxes=(place / regions)[:, None].expand(count, regions, 4).clone(),
        labels=place.long().expand(count, regions).clone(),
        graph=graph,
    )


@pytest.fixture
def tokenizer():
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit([" ".join("abcdefghij")])
    return tokenizer


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def texts(tokenizer, captions, relations=None):
    """Captions with relations (subject, predicate, object) of tokens."""
    graph = None
    if relations is not None:
        graph = graph_of(torch.tensor([edge for row in relations for edge in row]), [len(row) for row in relations])
    return tokenizer.padded(tokenizer(captions), captions, graph)


def rows(captions):
    return [ids[mask].tolist() for ids, mask in zip(captions.input_ids, captions.mask, strict=True)]


def edges(graph):
    return torch.stack([graph.row, graph.edge_index[0], graph.predicate, graph.edge_index[1]], 1).tolist()


def test_columns_and_relations_follow_their_regions():
    given = images(20)
    out = SizeAugmentation(region_drop=0.5).regions(given, seeded(0))
    assert out.mask.shape[1] < 6 or out.mask.all(1).any()
    lost = 0
    for image, mask in enumerate(out.mask):
        kept = out.labels[image][mask]  # the label of a region is its old place
        assert torch.equal(out.features[image, mask, 0].long(), kept)
        assert torch.equal((out.boxes[image, mask, 0] * 6).round().long(), kept)
        mine = out.graph.row == image
        ends = kept[out.graph.edge_index[:, mine]].T.tolist()
        assert ends == [[i, j] for i in kept.tolist() for j in kept.tolist()]
        assert out.graph.predicate[mine].tolist() == [10 * i + j for i, j in ends]
        assert torch.allclose(out.graph.confidence[mine], torch.tensor([i * 6 + j for i, j in ends]) / 36)
        lost += 6 - len(kept)
    assert 30 < lost < 90
    assert not out.features[~out.mask].any()
    assert not out.boxes[~out.mask].any()
    assert (out.labels[~out.mask] == -1).all()
    assert given.graph.edge_index.max() == 5  # what was given is left as it was
    Regions(out.features, out.mask, out.boxes, out.labels, out.graph)  # checks itself


def test_padding_is_never_kept():
    mask = lengths_to_mask(torch.tensor([1, 5, 3]))
    for seed in range(20):
        kept = SizeAugmentation(region_drop=0.6).kept(mask, seeded(seed))
        assert not (kept & ~mask).any()
        assert kept.any(1).all()
        assert kept[0].tolist() == [True, False, False, False, False]


def test_rate_of_regions():
    kept = SizeAugmentation().kept(torch.ones(300, 36, dtype=torch.bool), seeded(0)).float()
    assert kept.sum(1).mean() == pytest.approx(0.8 * 36, abs=0.5)
    assert kept.mean(0) == pytest.approx(0.8, abs=0.1)  # each place alike
    assert kept.sum(1).var() == pytest.approx(0.2 * 0.8 * 36, rel=0.3)  # and by itself


def test_one_region_stays_and_each_has_its_chance():
    kept = SizeAugmentation(region_drop=1.0).kept(torch.ones(600, 6, dtype=torch.bool), seeded(0))
    assert kept.sum(1).eq(1).all()
    assert kept.sum(0).float() == pytest.approx(100, abs=30)


def test_nothing_is_dropped_at_a_rate_of_0():
    given = images(2)
    out = SizeAugmentation(region_drop=0.0).regions(given)
    assert torch.equal(out.features, given.features)
    assert edges(out.graph) == edges(given.graph)


def test_images_without_columns():
    out = SizeAugmentation(region_drop=0.9).regions(Regions(torch.randn(2, 6, 2)), seeded(0))
    assert out.boxes is out.labels is out.graph is None


def test_token_rates(tokenizer):
    given = texts(tokenizer, [" ".join("abcdefghij" * 100)] * 20)
    out = SizeAugmentation().captions(given, tokenizer, seeded(0))
    count = 20 * 1000
    assert all((row[0], row[-1]) == (old[0], old[-1]) for row, old in zip(rows(out), rows(given), strict=True))
    assert 1 - (int(out.mask.sum()) - 40) / count == pytest.approx(0.08, abs=0.01)
    assert int((out.input_ids == tokenizer.mask_id).sum()) / count == pytest.approx(0.1, abs=0.01)
    assert (out.input_ids[~out.mask] == tokenizer.pad_id).all()
    out = SizeAugmentation(token_mask=0.0, token_replace=1.0, token_drop=0.0).captions(given, tokenizer, seeded(0))
    assert torch.equal(out.mask, given.mask)
    words = tokenizer.vocab_size - len(tokenizer.special_ids)
    changed = int((out.input_ids != given.input_ids).sum()) / count
    assert changed == pytest.approx(0.2 * (1 - 1 / words), abs=0.01)  # a word may be replaced by itself
    assert not set(out.input_ids[:, 1:-1].flatten().tolist()) & tokenizer.special_ids


def test_one_token_stays(tokenizer):
    first, *words, last = tokenizer(["a b c"])[0]
    for shares in ({"token_drop": 1.0, "token_mask": 0.0}, {"token_mask": 1.0, "token_drop": 0.0}):
        augmentation = SizeAugmentation(token_rate=1.0, token_replace=0.0, **shares)
        out = rows(augmentation.captions(texts(tokenizer, ["a b c"] * 300), tokenizer, seeded(0)))
        kept = [[token for token in row if token not in tokenizer.special_ids] for row in out]
        assert all(row == [first, *found, last] and len(found) == 1 for row, found in zip(out, kept, strict=True))
        assert all(sum(found == [word] for found in kept) == pytest.approx(100, abs=30) for word in words)


def test_relations_follow_their_tokens(tokenizer):
    text = " ".join("abcdefgh")  # all different, so a token that stays tells its old place
    ids = tokenizer([text])[0]
    relations = [(s, p, o) for s in range(1, 9) for p in (-1, 3, 5) for o in range(1, 9)]
    augmentation = SizeAugmentation(token_rate=0.4, token_replace=0.0, token_mask=0.0, token_drop=1.0)
    plain = augmentation.captions(texts(tokenizer, [text] * 30), tokenizer, seeded(0))
    out = augmentation.captions(texts(tokenizer, [text] * 30, [relations] * 30), tokenizer, seeded(0))
    assert torch.equal(out.input_ids, plain.input_ids)  # the same draws
    for number, row in enumerate(rows(out)):
        places = {new: ids.index(token) for new, token in enumerate(row)} | {-1: -1}
        kept = set(places.values())
        expected = [(s, p if p in kept else -1, o) for s, p, o in relations if {s, o} <= kept]
        mine = [edge[1:] for edge in edges(out.graph) if edge[0] == number]
        assert [tuple(places[place] for place in edge) for edge in mine] == expected
    assert len(edges(out.graph)) < 25 * len(relations)
    Captions(out.input_ids, out.mask, out.graph)  # checks itself


def test_hidden_and_replaced_tokens_keep_their_relations(tokenizer):
    relations = [[(1, 2, 8), (3, -1, 1), (5, 6, 7)]]
    given = texts(tokenizer, [" ".join("abcdefgh")], relations)
    for shares in ({"token_mask": 1.0, "token_replace": 0.0}, {"token_mask": 0.0, "token_replace": 1.0}):
        augmentation = SizeAugmentation(token_rate=0.7, token_drop=0.0, **shares)
        out = augmentation.captions(given, tokenizer, seeded(1))
        assert not torch.equal(out.input_ids, given.input_ids)
        assert edges(out.graph) == edges(given.graph)


def test_relations_of_the_one_token_that_stays(tokenizer):
    augmentation = SizeAugmentation(token_rate=1.0, token_mask=0.0, token_replace=0.0, token_drop=1.0)
    out = augmentation.captions(texts(tokenizer, ["a b"], [[(1, -1, 2)]]), tokenizer, seeded(0))
    assert len(rows(out)[0]) == 3
    assert edges(out.graph) == []


def test_nothing_but_the_frame(tokenizer):
    given = Captions(torch.tensor([[1, 2]]))
    assert SizeAugmentation(token_rate=1.0).captions(given, tokenizer).input_ids.tolist() == [[1, 2]]


def test_the_rules_of_the_batch_are_those_of_one_caption_after_the_other(tokenizer):
    """At the draws of the batch, a loop over tokens and regions gives the same."""
    captions = ["a b c d", "e", "f g h i j a b", "c c"] * 10
    given, augmentation = texts(tokenizer, captions), SizeAugmentation(0.5, 0.8, 0.3, 0.2, 0.5)
    out = rows(augmentation.captions(given, tokenizer, seeded(4)))
    draws = torch.rand(3, *given.input_ids.shape, generator=seeded(4)).tolist()
    for number, ids in enumerate(rows(given)):
        pick, kind, other = (draw[number] for draw in draws)
        expected = []
        for place, token in enumerate(ids):
            if token not in tokenizer.special_ids and pick[place] < 0.8:
                if kind[place] < 0.3:
                    token = tokenizer.mask_id
                elif kind[place] < 0.5:
                    ordinary = [word for word in range(tokenizer.vocab_size) if word not in tokenizer.special_ids]
                    token = ordinary[int(other[place] * len(ordinary))]
                else:
                    continue
            expected.append(token)
        if not set(expected) - tokenizer.special_ids:  # masks are no text
            best = max(range(1, len(ids) - 1), key=lambda place: other[place])
            expected = [ids[0], ids[best], ids[-1]]
        assert out[number] == expected
    mask = lengths_to_mask(torch.tensor([6, 1, 3, 2] * 10))
    kept, draw = augmentation.kept(mask, seeded(5)), torch.rand(mask.shape, generator=seeded(5))
    for row, real, number in zip(kept.tolist(), mask.tolist(), draw.tolist(), strict=True):
        stays = [r and d >= 0.5 for r, d in zip(real, number, strict=True)]
        best = max((d, place) for place, (r, d) in enumerate(zip(real, number, strict=True)) if r)[1]
        assert row == (stays if any(stays) else [place == best for place in range(6)])


def test_reproducible_with_the_global_seed(tokenizer):
    given, augmentation, results = texts(tokenizer, ["a b c d e f g"]), SizeAugmentation(token_rate=0.7), []
    for _ in range(2):
        torch.manual_seed(5)
        results.append((rows(augmentation.captions(given, tokenizer)), augmentation.regions(images()).labels.tolist()))
    assert results[0] == results[1]


def test_ordinary_token_is_uniform_and_never_special():
    drawn = _ordinary(torch.arange(600).double() / 600, 10, torch.tensor([0, 1, 4, 9])).tolist()
    assert {token: drawn.count(token) for token in set(drawn)} == dict.fromkeys([2, 3, 5, 6, 7, 8], 100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"region_drop": 1.2}, "region_drop: 1.2"),
        ({"token_rate": -0.1}, "token_rate: -0.1"),
        ({"token_mask": 0.8}, "is 1.3, expected at most 1"),
    ],
)
def test_wrong_rates(arguments, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        SizeAugmentation(**arguments)


def test_spec():
    assert build(SizeAugmentation(token_mask=0.1).spec, SizeAugmentation).token_mask == 0.1
