import pytest
import torch

from itmatch.data import ImageItem, SizeAugmentation, WordTokenizer
from itmatch.data.batching.augmentation import _ordinary
from itmatch.spec import build


def item(regions=6):
    return ImageItem(
        3,
        torch.arange(regions).float()[:, None].repeat(1, 2),
        boxes=torch.arange(regions).float()[:, None].repeat(1, 4) / regions,
        labels=torch.arange(regions),
        relations=torch.tensor([[i, 10 * i + j, j] for i in range(regions) for j in range(regions)]),
        relation_scores=torch.arange(regions * regions) / regions**2,
    )


@pytest.fixture
def tokenizer():
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit([" ".join("abcdefghij")])
    return tokenizer


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_columns_and_relations_follow_their_regions():
    given = item()
    for seed in range(20):
        out = SizeAugmentation(region_drop=0.5).regions(given, seeded(seed))
        kept = out.labels  # the label of a region is its old place
        assert torch.equal(out.features[:, 0].long(), kept)
        assert torch.equal((out.boxes[:, 0] * 6).round().long(), kept)
        expected = [(i, j) for i in kept.tolist() for j in kept.tolist()]
        found = [(int(kept[s]), int(kept[o])) for s, _, o in out.relations]
        assert sorted(found) == expected
        assert all(p == 10 * i + j for (i, j), p in zip(found, out.relations[:, 1].tolist(), strict=True))
        assert torch.allclose(out.relation_scores, torch.tensor([i * 6 + j for i, j in found]) / 36)
    assert given.relations[:, 2].max() == 5  # the item given is left as it was


def test_rate_of_regions():
    kept = [len(SizeAugmentation().regions(item(36), seeded(i)).features) for i in range(300)]
    assert sum(kept) / 300 == pytest.approx(0.8 * 36, abs=0.5)


def test_one_region_stays_and_each_has_its_chance():
    kept = [SizeAugmentation(region_drop=1.0).regions(item(), seeded(i)).labels.tolist() for i in range(100)]
    assert all(len(k) == 1 for k in kept)
    assert {k[0] for k in kept} == set(range(6))


def test_no_drop_is_the_same_item():
    given = item()
    assert SizeAugmentation(region_drop=0.0).regions(given) is given


def test_image_without_columns():
    out = SizeAugmentation(region_drop=0.9).regions(ImageItem(0, torch.randn(6, 2)), seeded(0))
    assert out.boxes is out.labels is out.relations is None


def test_token_rates(tokenizer):
    ids = tokenizer([" ".join("abcdefghij" * 2000)])[0]
    out = SizeAugmentation().tokens(ids, tokenizer, seeded(0))
    assert out[0] == ids[0]
    assert out[-1] == ids[-1]
    count = len(ids) - 2
    assert 1 - (len(out) - 2) / count == pytest.approx(0.08, abs=0.01)
    assert out.count(tokenizer.mask_id) / count == pytest.approx(0.1, abs=0.01)
    kept_only = SizeAugmentation(token_mask=0.0, token_replace=1.0, token_drop=0.0)
    out = kept_only.tokens(ids, tokenizer, seeded(0))
    assert len(out) == len(ids)
    words = tokenizer.vocab_size - len(tokenizer.special_ids)
    changed = sum(a != b for a, b in zip(out, ids, strict=True)) / count
    assert changed == pytest.approx(0.2 * (1 - 1 / words), abs=0.01)  # a word may be replaced by itself
    assert not set(out[1:-1]) & tokenizer.special_ids


def test_one_token_stays(tokenizer):
    ids = tokenizer(["a b c"])[0]
    special = tokenizer.special_ids
    for shares in ({"token_drop": 1.0, "token_mask": 0.0}, {"token_mask": 1.0, "token_drop": 0.0}):
        seen = set()
        for seed in range(50):
            out = SizeAugmentation(token_rate=1.0, token_replace=0.0, **shares).tokens(ids, tokenizer, seeded(seed))
            real = [i for i in out if i not in special]
            assert len(real) == 1
            assert out == [ids[0], real[0], ids[-1]]
            seen.add(real[0])
        assert seen == set(ids[1:-1])


def test_relations_follow_their_tokens(tokenizer):
    ids = tokenizer([" ".join("abcdefgh")])[0]  # all different, so a token that stays tells its old place
    relations = [(s, p, o) for s in range(1, 9) for p in (-1, 3, 5) for o in range(1, 9)]
    gone = 0
    for seed in range(30):
        for shares in ({"token_drop": 1.0, "token_mask": 0.0}, {}):
            augmentation = SizeAugmentation(token_rate=0.4, **{"token_replace": 0.0, **shares})
            plain = augmentation.tokens(ids, tokenizer, seeded(seed))
            out, moved = augmentation.related_tokens(ids, relations, tokenizer, seeded(seed))
            assert out == plain  # the same draws
            if tokenizer.mask_id in out:
                continue
            places = {new: ids.index(token) for new, token in enumerate(out)} | {-1: -1}
            kept = set(places.values())
            expected = [(s, p if p in kept else -1, o) for s, p, o in relations if {s, o} <= kept]
            assert [tuple(places[place] for place in row) for row in moved] == expected
            gone += len(relations) - len(moved)
    assert gone > 1000


def test_hidden_and_replaced_tokens_keep_their_relations(tokenizer):
    ids = tokenizer([" ".join("abcdefgh")])[0]
    relations = [(1, 2, 8), (3, -1, 1), (5, 6, 7)]
    for shares in ({"token_mask": 1.0, "token_replace": 0.0}, {"token_mask": 0.0, "token_replace": 1.0}):
        augmentation = SizeAugmentation(token_rate=0.7, token_drop=0.0, **shares)
        out, moved = augmentation.related_tokens(ids, relations, tokenizer, seeded(1))
        assert out != ids
        assert moved == relations


def test_relations_of_the_one_token_that_stays(tokenizer):
    ids = tokenizer(["a b"])[0]
    augmentation = SizeAugmentation(token_rate=1.0, token_mask=0.0, token_replace=0.0, token_drop=1.0)
    out, moved = augmentation.related_tokens(ids, [(1, -1, 2)], tokenizer, seeded(0))
    assert len(out) == 3
    assert moved == []


def test_nothing_but_the_frame(tokenizer):
    assert SizeAugmentation(token_rate=1.0).tokens([1, 2], tokenizer) == [1, 2]
    assert SizeAugmentation(token_rate=1.0).related_tokens([1, 2], [], tokenizer) == ([1, 2], [])


def test_reproducible_with_the_global_seed(tokenizer):
    ids = tokenizer(["a b c d e f g"])[0]
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        augmentation = SizeAugmentation(token_rate=0.7)
        results.append((augmentation.tokens(ids, tokenizer), augmentation.regions(item()).labels.tolist()))
    assert results[0] == results[1]


def test_ordinary_token_is_uniform_and_never_special():
    special = frozenset({0, 1, 4, 9})
    drawn = [_ordinary(i / 600, 10, special) for i in range(600)]
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
